"""A catalogue as a data set that travels whole: Parquet files that hold every task folder, and back.

    OUT/data/<split>-NNNNN.parquet   one row a task: what is asked of it, its labels, and the files of its folder
    OUT/README.md                    the card, which tells `datasets.load_dataset(OUT)` the splits
    OUT/images.jsonl, funnel.json    as the catalogue has them

Both ways go in bounded memory. What is pulled is a stranger's: names that lead out are refused, and every task must
have the content hash that its row says.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from env_registry.store import FILTERS, read_jsonl, write_big_index
from terminal_gym.errors import BadSetting, BadTaskFormat, StoreError
from terminal_gym.tasks.catalogue import Catalogue, Row, read_folder

VERSION = 1
ROWS = 50_000  # of one file
_BATCH = 256
_SPLITS = ("train", "val", "test")
_BESIDE = ("images.jsonl", "funnel.json")
_CARD = """---
configs:
- config_name: default
  data_files:
{files}
---

# {count} tasks for terminal agents

Made by `tgym registry push`, version {version}; `tgym registry pull` makes a catalogue of it again. Each row holds
the files of a task folder in `files`: instruction, image recipe, tests, and solution where there is one.
"""


def push(catalogue: Path, out: Path, *, rows: int = ROWS) -> dict[str, int]:
    """Write a catalogue as a data set into a new folder; returns the number of tasks of each split.

    Args:
        rows: Of one file, at most.

    Raises:
        BadSetting: The folder is not empty, the catalogue is, or pyarrow is missing.
        BadTaskFormat: A task cannot be read.
        StoreError: It cannot be written.
    """
    _new(out)
    source, counts = Catalogue(catalogue), Counter[str]()
    try:
        (out / "data").mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            writers = {split: stack.enter_context(_Writer(out / "data", split, rows)) for split in _SPLITS}
            for row in source.rows.values():
                split = str(row.labels.get("split"))
                split = split if split in _SPLITS else "train"
                writers[split].add(_cells(source, row))
                counts[split] += 1
        if not counts:
            raise BadSetting(f"{catalogue} holds no task.")
        for name in _BESIDE:
            if (catalogue / name).is_file():
                shutil.copy(catalogue / name, out / name)
        listed = [f"  - split: {name}\n    path: data/{name}-*.parquet" for name in _SPLITS if counts[name]]
        card = _CARD.format(files="\n".join(listed), count=sum(counts.values()), version=VERSION)
        (out / "README.md").write_text(card, "utf-8")
    except OSError as error:
        raise StoreError(f"{out}: cannot be written: {error.strerror}.") from error
    return {split: counts[split] for split in _SPLITS if counts[split]}


def pull(dataset: Path, out: Path) -> int:
    """Write a data set's tasks as a catalogue into a new folder, with indexes and manifest; returns their number.

    Raises:
        BadSetting: The folder is not empty, there is no data set, or pyarrow is missing.
        BadTaskFormat: A row is none, a name leads out, or a task is not what its hash says.
        StoreError: It cannot be written.
    """
    _new(out)
    files = sorted((dataset / "data").glob("*.parquet"))
    if not files:
        raise BadSetting(f"{dataset} holds no data/*.parquet. Name a folder that `tgym registry push` wrote.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "index.jsonl").open("w", encoding="utf-8") as index:
            for file in files:
                for cells in _rows(file):
                    index.write(json.dumps(_unpacked(file, cells, out.resolve()), ensure_ascii=False) + "\n")
        count = write_big_index(out, read_jsonl(out / "index.jsonl"))
        with (out / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
            for row in read_jsonl(out / "index.jsonl"):
                manifest.write(
                    json.dumps({"path": row["path"]}) + "\n"
                )  # unpinned: images are made anew here
        for name in _BESIDE:
            if (dataset / name).is_file():
                shutil.copy(dataset / name, out / name)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written: {error.strerror}.") from error
    return count


def _new(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise BadSetting(f"{out} is not empty. Name a new folder.")


def _parquet() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BadSetting("A data set needs pyarrow: pip install 'terminal-gym[data]'.") from error
    return pyarrow


# ── there ───────────────────────────────────────────────────────────────────────────────────────


class _Writer:
    """Writes the files of one split, none where it has no row."""

    def __init__(self, folder: Path, split: str, rows: int):
        arrow = _parquet()
        file = arrow.struct([("path", arrow.string()), ("mode", arrow.int32()), ("content", arrow.binary())])
        texts = ("id", "namespace", "path", "hash", "instruction", *FILTERS, "labels")
        self._schema = arrow.schema(
            [*((name, arrow.string()) for name in texts), ("files", arrow.list_(file))]
        )
        self._arrow, self._folder, self._split, self._rows = arrow, folder, split, rows
        self._waiting: list[dict[str, Any]] = []
        self._written = 0
        self._file: Any = None

    def add(self, cells: dict[str, Any]) -> None:
        self._waiting.append(cells)
        if len(self._waiting) == min(_BATCH, self._rows - self._written % self._rows):
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._file is None:
            path = self._folder / f"{self._split}-{self._written // self._rows:05}.parquet"
            self._file = self._arrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        table = self._arrow.Table.from_pylist(self._waiting, schema=self._schema)
        self._file.write_table(table)
        self._written += len(self._waiting)
        self._waiting.clear()
        if not self._written % self._rows:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
        self._close()


def _cells(catalogue: Catalogue, row: Row) -> dict[str, Any]:
    task, folder = catalogue.task(str(row.ref)), catalogue.path(row)
    labels = {name: row.labels.get(name) for name in FILTERS}
    return {
        "id": row.ref.name,
        "namespace": row.ref.namespace,
        "path": row.path,
        "hash": task.content_hash(),
        "instruction": task.instruction,
        **{name: None if value is None else str(value) for name, value in labels.items()},
        "labels": json.dumps(dict(row.labels), ensure_ascii=False),
        "files": [_packed(folder, path) for path in sorted(folder.rglob("*")) if _is_kept(path)],
    }


def _is_kept(path: Path) -> bool:
    return (path.is_symlink() or not path.is_dir()) and path.parent.name != "__pycache__"


def _packed(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_symlink():
        raise BadTaskFormat(path, "a link", "A data set holds plain files; put the file in its place.")
    return {"path": name, "mode": path.stat().st_mode & 0o777, "content": path.read_bytes()}


# ── and back ────────────────────────────────────────────────────────────────────────────────────


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    arrow = _parquet()
    try:
        with arrow.parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()
    except (arrow.ArrowException, ValueError) as error:
        raise BadTaskFormat(file, f"no Parquet: {error}", "Push it again.") from error


def _unpacked(file: Path, cells: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write one task; returns its row of the index."""
    try:
        id, place, wanted = str(cells["id"]), str(cells["path"]), str(cells["hash"])
        labels, files = json.loads(cells["labels"]), list(cells["files"])
        named = [(str(one["path"]), int(one["mode"]), bytes(one["content"])) for one in files]
    except (KeyError, TypeError, ValueError) as error:
        raise BadTaskFormat(file, f"a row is no task: {error!r}", "Push it again.") from error
    folder = out / _inside(file, place)
    if folder.exists():
        raise BadTaskFormat(file, f"{place} is there twice", "Remove one.")
    for name, mode, content in named:
        path = folder / _inside(file, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode & 0o777 | 0o600)
    if (found := read_folder(folder).content_hash()) != wanted:
        raise BadTaskFormat(file, f"{id} is not what its hash says: {found}, not {wanted}", "Push it again.")
    return {**labels, "id": id, "namespace": str(cells["namespace"]), "path": place}


def _inside(file: Path, name: str) -> str:
    """The name, where it leads down; files are plain, so nothing else leads out."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in name:
        raise BadTaskFormat(file, f"{name!r} leads out", "Keep files inside their task.")
    return name
