"""What an oracle has shown about the strict judge of foreign tasks: kept beside the task set, never in a task's folder.

    tasks/              the set, unchanged
    tasks.calibration.jsonl     one object a line: {"task", "hash", "judge", "mode", "user", "fair", "note", "date"}

A row counts for the content that it was made for; a task that was changed since is uncalibrated again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.harness import StrictSpec
from terminal_gym.tasks.task import Mode, Task


@dataclass(frozen=True)
class Calibration:
    """How the strict judge has to look at one task so that a correct solution passes."""

    task: str  # the folder's name
    hash: str  # content hash of the task without a calibration
    judge: Literal["pytest", "script"]
    mode: Mode
    user: Literal["nobody", "root"]
    fair: bool  # the oracle passed and doing nothing failed; False: in no way that was tried
    note: str = ""
    date: str = ""


def beside(folder: Path) -> Path:
    """Return where the calibrations of the task set in `folder` are kept."""
    folder = folder.absolute()
    return folder.with_name(f"{folder.name}.calibration.jsonl")


def applied(task: Task) -> Task:
    """Return the task as its calibration says, or unchanged where it has none.

    Raises:
        BadTaskFormat: The file is there and cannot be read.
    """
    if task.strict.calibrated is None:
        return task
    path = beside(task.folder.parent)
    try:
        status = path.stat()
    except OSError:
        return task
    row = _rows(path, status.st_mtime_ns).get(task.folder.name)
    if row is None or row.hash != task.content_hash():
        return task
    validator = replace(task.validator, mode=row.mode, tested_code_user=row.user)
    return replace(
        task, validator=validator, strict=StrictSpec(row.judge, calibrated=row.fair, note=row.note)
    )


def without(task: Task) -> Task:
    """Return the task as it was read, before any calibration."""
    if task.strict.calibrated is None:
        return task
    from terminal_gym.tasks import harbor, terminal_bench, terminaltraj

    readers = {"harbor": harbor.read_task, "terminaltraj": terminaltraj.read_task}
    read = readers.get(task.format, terminal_bench.read_task)
    return replace(read(task.folder, namespace=task.ref.namespace), limits=task.limits)


def write(path: Path, rows: Iterable[Calibration]) -> None:
    """Write the rows into the file at `path`, each in place of the row that the same task had."""
    known = dict(_read(path)) if path.is_file() else {}
    known |= {row.task: row for row in rows}
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text("".join(f"{json.dumps(asdict(row))}\n" for row in known.values()), "utf-8")
    draft.replace(path)


@functools.lru_cache(maxsize=16)
def _rows(path: Path, changed_ns: int) -> Mapping[str, Calibration]:
    del changed_ns  # only so that a changed file is read again
    return _read(path)


def _read(path: Path) -> Mapping[str, Calibration]:
    rows = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = Calibration(**json.loads(line))
        except (ValueError, TypeError) as error:
            advice = "Remove the line, and calibrate again."
            raise BadTaskFormat(path, f"no calibration: {error}", advice, line=number) from error
        rows[row.task] = row
    return rows
