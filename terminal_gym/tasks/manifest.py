"""Manifests: ordered task references as JSON lines, which a query can write and a person can edit.

A line is `{"task": "<catalogue id>"}` or `{"path": "<task folder, relative to the manifest>"}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from terminal_gym.errors import BadSetting, BadTaskFormat
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.task import Task


@dataclass(frozen=True)
class Manifest:
    """Task references in the order in which they are run; each is what `find_task` takes."""

    refs: tuple[str, ...]

    def tasks(self) -> tuple[Task, ...]:
        """Open every task.

        Raises:
            UnknownName: A reference stands for no task.
            BadTaskFormat: A task cannot be read.
        """
        return tuple(map(find_task, self.refs))


def open_manifest(given: Manifest | str | Path | Iterable[str | Path]) -> Manifest:
    """Return the manifest at a path, or made of references given directly.

    Raises:
        BadTaskFormat: The file has a line that is no reference; names it.
        BadSetting: There is no reference in it.
    """
    if isinstance(given, Manifest):
        return given
    if isinstance(given, str | Path):
        return read_manifest(Path(given))
    refs = tuple(map(str, given))
    if not refs:
        raise BadSetting("The manifest holds no task. Give at least one reference.")
    return Manifest(refs)


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in a file; raises as `open_manifest` does."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadTaskFormat(path, f"cannot be read: {error.strerror}", "Name a manifest.") from error
    refs = tuple(_ref(path, number, line) for number, line in enumerate(lines, 1) if line.strip())
    if not refs:
        raise BadSetting(f"{path} holds no task. Write one JSON object a line.")
    return Manifest(refs)


def write_manifest(path: Path, refs: Iterable[str]) -> None:
    """Write catalogue ids, one a line."""
    path.write_text("".join(json.dumps({"task": ref}) + "\n" for ref in refs), "utf-8")


def _ref(path: Path, number: int, line: bytes) -> str:
    try:
        cells = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadTaskFormat(path, f"not JSON: {error}", "One object a line.", line=number) from error
    advice = 'Write {"task": "<id>"} or {"path": "<folder>"}.'
    if not isinstance(cells, dict) or len(cells) != 1 or next(iter(cells)) not in ("task", "path"):
        raise BadTaskFormat(path, "not a task reference", advice, line=number)
    ((key, value),) = cells.items()
    if not isinstance(value, str) or not value.strip():
        raise BadTaskFormat(path, f"{key!r} is {value!r}", advice, line=number, field=key)
    return value if key == "task" else str((path.parent / value).absolute())
