"""Writes the `index.jsonl` of a catalogue from its task folders: `python -m env_registry.index FOLDER`.

A row holds what can be asked without opening a task: id, path, domain, difficulty, split, image name, mode, content
hash. Rows are sorted by id, so a changed task is a changed line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.task import Task


def index_rows(folder: Path) -> list[dict[str, object]]:
    """Return one row for each task folder directly in `folder`.

    Raises:
        BadTaskFormat: A task cannot be read.
    """
    tasks = [read_folder(path.parent) for path in sorted(folder.glob("*/task.yaml"))]
    return [_row(task, folder) for task in tasks]


def write_index(folder: Path) -> int:
    """Write `folder/index.jsonl`; returns the number of rows."""
    rows = index_rows(folder)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "index.jsonl").write_text(lines, "utf-8")
    return len(rows)


def _row(task: Task, folder: Path) -> dict[str, object]:
    return {
        "id": task.ref.name,
        "path": task.folder.relative_to(folder.absolute()).as_posix(),
        "domain": task.metadata.get("domain", ""),
        "difficulty": task.metadata.get("difficulty", "unknown"),
        "split": task.metadata.get("split", "train"),
        "image": task.image.name,
        "mode": task.validator.mode,
        "hash": task.content_hash(),
    }


if __name__ == "__main__":
    write_index(Path(sys.argv[1]))
