"""Manifests: ordered task references as JSON lines, which a query can write and a person can edit.

A line is `{"task": "<catalogue id>"}` or `{"path": "<task folder, relative to the manifest>"}`. With a digest beside
it, `"image": "sha256:…"`, the task's image is pinned: another one under its name is refused when a sandbox starts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from terminal_gym.errors import BadSetting, BadTaskFormat
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.task import Task


@dataclass(frozen=True)
class Manifest:
    """Task references in the order in which they are run; each is what `find_task` takes."""

    refs: tuple[str, ...]
    images: Mapping[str, str] = field(
        default_factory=dict
    )  # reference → digest of the image it was pinned to

    def tasks(self) -> tuple[Task, ...]:
        """Open every task.

        Raises:
            UnknownName: A reference stands for no task.
            BadTaskFormat: A task cannot be read.
        """
        return tuple(self.task(ref) for ref in self.refs)

    def task(self, ref: str) -> Task:
        """Open one of its tasks; its image is held to the digest that is pinned, if one is."""
        task = find_task(ref)
        if ref not in self.images:
            return task
        return replace(task, image=replace(task.image, digest=self.images[ref]))


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
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise BadSetting(f"{path} holds no task. Write one JSON object a line.")
    return Manifest(tuple(ref for ref, _ in rows), {ref: image for ref, image in rows if image})


def pinned(path: Path, digests: Mapping[str, str]) -> None:
    """Write the digest of each reference into the manifest at `path`, in place; references stay as they are written."""
    lines = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            ref, _ = _row(path, number, line)
            cells = json.loads(line)
            lines.append(json.dumps(cells | ({"image": digests[ref]} if ref in digests else {})) + "\n")
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text("".join(lines), "utf-8")
    draft.replace(path)


def write_manifest(path: Path, refs: Iterable[str]) -> None:
    """Write catalogue ids, one a line."""
    path.write_text("".join(json.dumps({"task": ref}) + "\n" for ref in refs), "utf-8")


def _row(path: Path, number: int, line: bytes) -> tuple[str, str]:
    """(reference, digest or "")"""
    try:
        cells = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadTaskFormat(path, f"not JSON: {error}", "One object a line.", line=number) from error
    advice = 'Write {"task": "<id>"} or {"path": "<folder>"}.'
    image = cells.pop("image", "") if isinstance(cells, dict) else ""
    if not isinstance(image, str) or (image and not re.fullmatch(r"sha256:[0-9a-f]{64}", image)):
        raise BadTaskFormat(
            path, f"'image' is {image!r}", "Write sha256:<64 hex digits>.", line=number, field="image"
        )
    if not isinstance(cells, dict) or len(cells) != 1 or next(iter(cells)) not in ("task", "path"):
        raise BadTaskFormat(path, "not a task reference", advice, line=number)
    ((key, value),) = cells.items()
    if not isinstance(value, str) or not value.strip():
        raise BadTaskFormat(path, f"{key!r} is {value!r}", advice, line=number, field=key)
    return (value if key == "task" else str((path.parent / value).absolute())), image
