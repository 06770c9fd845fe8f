"""Reads catalogues: a folder of task folders with an `index.jsonl`, installed by entry point or given by path.

One row of the index is one JSON object: `id` (name within the namespace) and `path` (task folder, relative to
the index) are needed, `namespace` defaults to "TerminalTraj"; every other key is a label (domain, difficulty,
split, image …) that can be listed without opening the task. A folder without an index is a catalogue of the task
folders directly in it. An `index.sqlite` counts before an `index.jsonl` and is not read at once: for millions of tasks.

Installed catalogues are found in the entry-point group `terminal_gym.catalogues`; each value names a folder, as
a Path or a function that returns one.
"""

from __future__ import annotations

import functools
import json
import pkgutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from terminal_gym.errors import BadTaskFormat, UnknownName
from terminal_gym.tasks import big_index
from terminal_gym.tasks.big_index import BigIndex
from terminal_gym.tasks.task import NAME, TaskRef

if TYPE_CHECKING:
    from terminal_gym.tasks.task import Task

GROUP = "terminal_gym.catalogues"
NAMESPACE = "TerminalTraj"


@dataclass(frozen=True)
class Row:
    """One line of an index."""

    ref: TaskRef
    path: str  # task folder, relative to the catalogue's
    labels: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Catalogue:
    """A folder of tasks; its index is read once, when it is first asked for."""

    folder: Path
    namespace: str = NAMESPACE

    @functools.cached_property
    def rows(self) -> Mapping[str, Row]:
        """Id (`namespace/name`) → row, in the order of the index.

        Raises:
            BadTaskFormat: A line is not a row; names the line.
        """
        if (big := self._big) is not None:
            return _Rows(big)
        index = self.folder / "index.jsonl"
        if not index.is_file():
            return {str(row.ref): row for row in self._found()}
        rows: dict[str, Row] = {}
        with index.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = self._row(index, number, line)
                    if rows.setdefault(str(row.ref), row) is not row:
                        raise BadTaskFormat(index, "id given twice", "Remove one.", line=number, field="id")
        return rows

    def is_longer_than(self, rows: int) -> bool:
        """Whether the index has more lines than `rows`; counts them without reading them."""
        if self._big is not None:
            return len(self._big) > rows
        index = self.folder / "index.jsonl"
        return index.is_file() and index.read_bytes().count(b"\n") > rows

    def near(self, id: str) -> Collection[str]:
        """Return the ids that a mistyped one is compared with: every one, or of a large catalogue those beside it."""
        return self.rows if self._big is None else self._big.near(id)

    @functools.cached_property
    def _big(self) -> BigIndex | None:
        path = self.folder / big_index.FILE
        return BigIndex(path) if path.is_file() else None

    def path(self, row: Row) -> Path:
        """Return the folder of one of its tasks."""
        return self.folder / row.path

    def task(self, id: str) -> Task:
        """Return the task of that id.

        Raises:
            UnknownName: No row has this id.
            BadTaskFormat: Its folder cannot be read.
        """
        if id not in self.rows:
            raise UnknownName("task", id, known=self.near(id), advice=f"Looked in {self.folder}.")
        return replace(read_folder(self.path(self.rows[id])), ref=self.rows[id].ref)

    def _found(self) -> Iterator[Row]:
        if not self.folder.is_dir():
            raise BadTaskFormat(
                self.folder, "no such folder", "Name a catalogue, or a folder of task folders."
            )
        for folder in sorted(self.folder.iterdir()):
            if is_task_folder(folder):
                yield Row(TaskRef(self.namespace, folder.name), folder.name)

    def _row(self, index: Path, number: int, line: bytes) -> Row:
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadTaskFormat(index, f"not JSON: {error}", "One object a line.", line=number) from error
        if not isinstance(cells, dict):
            raise BadTaskFormat(index, "not an object", "One object a line.", line=number)
        name, path = cells.pop("id", None), cells.pop("path", None)
        for key, value in (("id", name), ("path", path)):
            if not isinstance(value, str) or not value:
                raise BadTaskFormat(index, f"{key!r} is {value!r}", "Write a string.", line=number, field=key)
        if not NAME.fullmatch(name):
            raise BadTaskFormat(
                index, f"{name!r} cannot be an id", f"Use {NAME.pattern}.", line=number, field="id"
            )
        if path.startswith("/") or ".." in path.split("/"):
            raise BadTaskFormat(index, f"{path!r} leads out", "Keep tasks inside.", line=number, field="path")
        return Row(TaskRef(str(cells.pop("namespace", self.namespace)), name), path, cells)


class _Rows(Mapping[str, Row]):
    """The rows of a large index, each made when it is asked for."""

    def __init__(self, index: BigIndex):
        self._index = index

    def __getitem__(self, id: str) -> Row:
        path, labels = self._index[id]
        namespace, _, name = id.rpartition("/")
        return Row(TaskRef(namespace, name), path, labels)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)


def read_folder(folder: Path, *, namespace: str = NAMESPACE) -> Task:
    """Return the task in `folder`, whichever known format it has.

    Raises:
        BadTaskFormat: It has none, or cannot be read.
    """
    # Here, not above: only a task that is opened needs the readers, and `import terminal_gym` opens none.
    from terminal_gym.tasks import calibration, harbor, terminal_bench, terminaltraj

    if harbor.is_task_folder(folder):
        task = harbor.read_task(folder, namespace=namespace)
    elif terminaltraj.is_task_folder(folder):
        task = terminaltraj.read_task(folder, namespace=namespace)
    else:
        task = terminal_bench.read_task(folder, namespace=namespace)
    return calibration.applied(task)


def is_task_folder(folder: Path) -> bool:
    """Whether `folder` holds a task of a known format, by its content."""
    return (folder / "task.yaml").is_file() or (folder / "task.toml").is_file()


def open_catalogue(path: Path, *, namespace: str = NAMESPACE) -> Catalogue:
    """Return the catalogue in a folder, or in a tarball of one, which is unpacked once into the cache folder.

    Raises:
        BadTaskFormat: It is neither, or the tarball is damaged.
    """
    if path.is_file():
        from terminal_gym.tasks.terminaltraj import unpacked

        return Catalogue(unpacked(path), namespace)
    return Catalogue(path, namespace)


@functools.cache
def installed() -> tuple[Catalogue, ...]:
    """Return the catalogues of the installed packages, in the order of their entry-point names.

    One that names no folder is left out with a RuntimeWarning: it must not take the others with it.
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    folders = [_folder(point.name, point.value) for point in points]
    return tuple(Catalogue(folder) for folder in folders if folder is not None)


def _folder(name: str, value: str) -> Path | None:
    try:
        found: Path | Callable[[], Path] = pkgutil.resolve_name(value)
        return Path(found() if callable(found) else found)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        left_out = f"Entry point {name!r} of group {GROUP} ({value}) names no folder: {error}."
        warnings.warn(f"{left_out} Reinstall or remove the package.", RuntimeWarning, stacklevel=3)
        return None


def find_task(task: str | Path, *, namespace: str = NAMESPACE) -> Task:
    """Return the task of a catalogue id, with or without its namespace, or of a path to a task folder.

    A string that starts with `.`, `/` or `~` is a path. Any other is looked up as an id first, then as a path.

    Raises:
        UnknownName: It is neither; names the nearest ids.
        BadTaskFormat: The folder cannot be read.
    """
    if isinstance(task, Path) or task.startswith((".", "/", "~")):
        if not Path(task).expanduser().is_dir():
            raise UnknownName(
                "task folder", str(task), known=(), advice="Name a folder with a task.yaml or task.toml."
            )
        return read_folder(Path(task).expanduser(), namespace=namespace)
    found = find_row(task)
    if found is not None:
        catalogue, row = found
        return catalogue.task(str(row.ref))
    if is_task_folder(Path(task)):
        return read_folder(Path(task), namespace=namespace)
    known = [
        id if "/" in task else id.partition("/")[2]
        for catalogue in installed()
        for id in catalogue.near(task)
    ]
    raise UnknownName("task", task, known=known, advice="A path to a task folder starts with ./ or /.")


def find_row(id: str) -> tuple[Catalogue, Row] | None:
    """Return the installed catalogue and row of an id, with or without its namespace; None where it is unknown."""
    for catalogue in installed():
        for wanted in (id, f"{catalogue.namespace}/{id}"):
            if wanted in catalogue.rows:
                return catalogue, catalogue.rows[wanted]
    return None
