"""What a task is filed under: its domain, and the repository it was made from; read from catalogues and folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terminal_gym.errors import BadSetting, TaskError, UsageError
from terminal_gym.tasks.catalogue import find_row, find_task

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Labels:
    """Where a task belongs."""

    domain: str = UNKNOWN
    repository: str = ""  # "": not known; the task then stands for itself

    @classmethod
    def of(cls, cells: Mapping[str, Any]) -> Labels:
        """Return the labels in a catalogue's row, a task's metadata, or a line of a labels file."""
        info = cells.get("item_info")
        told = {**info, **cells} if isinstance(info, Mapping) else cells
        repository = next((told[key] for key in ("repository", "repo", "family") if told.get(key)), "")
        return cls(str(told.get("domain") or told.get("category") or UNKNOWN), str(repository))


def labels_of(refs: Mapping[str, Any], given: Mapping[str, Labels]) -> dict[str, Labels]:
    """Return the labels of a run's tasks, by task reference as trajectories have it.

    Args:
        refs: What `find_task` takes, as a run's settings keep it; a task that is no longer there has no labels.
        given: Labels that go before those of the tasks.
    """
    found = dict(given)
    for ref in refs:
        for name, labels in _of_task(ref):
            found.setdefault(name, labels)
    return found


def _of_task(ref: str) -> Iterator[tuple[str, Labels]]:
    try:
        if (row := find_row(ref)) is not None:
            yield str(row[1].ref), Labels.of(row[1].labels)
        else:
            task = find_task(ref)
            yield str(task.ref), Labels.of(task.metadata)
    except (TaskError, UsageError):
        return


def read_labels(path: Path) -> dict[str, Labels]:
    """Return a file of labels: one JSON object a line, `{"task": …, "domain": …, "repository": …}`.

    Raises:
        BadSetting: A line is none; names it.
    """
    found: dict[str, Labels] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} cannot be read: {error}.") from error
    for number, line in enumerate(lines, 1):
        try:
            cells = json.loads(line)
            found[str(cells["task"])] = Labels.of(cells)
        except (ValueError, TypeError, LookupError) as error:
            advice = 'Write {"task": …, "domain": …, "repository": …}.'
            raise BadSetting(f"{path}:{number}: no labels: {error!r}. {advice}") from error
    return found
