"""Writes catalogues of any size: an index of a million rows in a file of SQLite, filters over it, counts of it.

FOLDER/index.sqlite    see terminal_gym/tasks/big_index.py; columns for the filters beside id, path and labels
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from terminal_gym.errors import BadTaskFormat, StoreError, UnknownName
from terminal_gym.tasks import big_index
from terminal_gym.tasks.catalogue import NAMESPACE
from terminal_gym.tasks.task import NAME

FILTERS = ("language", "domain", "licence", "difficulty", "split", "family", "repository", "valid")
_BATCH = 10_000


def write_big_index(folder: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write `folder/index.sqlite` from rows as an index.jsonl has them, in bounded memory; returns their number.

    The file appears whole: what was there before stays until the last row is written.

    Raises:
        BadTaskFormat: A row has no id or path, or an id stands twice.
        StoreError: It cannot be written.
    """
    path, new = folder / big_index.FILE, folder / f"{big_index.FILE}.new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        count = _fill(new, rows)
        new.replace(path)
    except (OSError, sqlite3.OperationalError) as error:
        raise StoreError(f"{path}: cannot be written: {error}.") from error
    finally:
        new.unlink(missing_ok=True)
    return count


def _fill(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    columns = ", ".join(f"{name} TEXT" for name in FILTERS)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")  # a file that is not whole is thrown away
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)")
        connection.execute(
            f"CREATE TABLE rows (id TEXT PRIMARY KEY, path TEXT, labels TEXT, {columns}) WITHOUT ROWID"
        )
        marks = ", ".join("?" * (3 + len(FILTERS)))
        count, batch = 0, []
        try:
            for row in rows:
                batch.append(_cells(path, count, row))
                count += 1
                if len(batch) == _BATCH:
                    connection.executemany(f"INSERT INTO rows VALUES ({marks})", batch)
                    batch.clear()
            connection.executemany(f"INSERT INTO rows VALUES ({marks})", batch)
        except sqlite3.IntegrityError as error:
            raise BadTaskFormat(path, f"an id stands twice: {error}", "Remove one.") from error
        for name in ("language", "split", "repository"):
            connection.execute(f"CREATE INDEX by_{name} ON rows ({name})")
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?)", [("version", str(big_index.VERSION)), ("rows", str(count))]
        )
        connection.execute("COMMIT")
    finally:
        connection.close()
    return count


def _cells(path: Path, number: int, row: Mapping[str, Any]) -> tuple[object, ...]:
    rest = dict(row)
    id, place, namespace = rest.pop("id", None), rest.pop("path", None), rest.pop("namespace", NAMESPACE)
    if not isinstance(id, str) or not NAME.fullmatch(id) or not isinstance(place, str) or not place:
        raise BadTaskFormat(path, f"row {number} has id {id!r} and path {place!r}", "Give both.", field="id")
    if place.startswith("/") or ".." in place.split("/"):
        raise BadTaskFormat(path, f"row {number}: {place!r} leads out", "Keep tasks inside.", field="path")
    filters = (None if rest.get(name) is None else str(rest[name]) for name in FILTERS)
    return (f"{namespace}/{id}", place, json.dumps(rest, ensure_ascii=False), *filters)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of an index.jsonl.

    Raises:
        BadTaskFormat: A line is no object; names it.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise BadTaskFormat(path, "not an object", "One object a line.", line=number)
                    yield row
    except FileNotFoundError:
        raise BadTaskFormat(path, "missing", "Write it: python -m env_registry.index FOLDER.") from None
    except ValueError as error:
        raise BadTaskFormat(path, f"not JSON: {error}", "One object a line.") from error


def select(folder: Path, wanted: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (id, path) of the rows that have these labels, in the order of the ids.

    Raises:
        UnknownName: There is no such filter.
        BadTaskFormat: The folder has no index.sqlite.
    """
    for name in wanted:
        if name not in FILTERS:
            raise UnknownName("filter", name, known=FILTERS)
    where = " AND ".join(f"{name} = ?" for name in wanted) or "1"
    yield from _ask(folder, f"SELECT id, path FROM rows WHERE {where} ORDER BY id", tuple(wanted.values()))


def table_one(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each language, as the paper's Table 1, of what is here: repositories, images, instances."""
    query = (
        "SELECT coalesce(language, ''), count(DISTINCT repository), count(DISTINCT json_extract(labels, '$.image')), "
        "count(*), sum(split = 'train'), sum(split = 'val'), sum(split = 'test') FROM rows GROUP BY language ORDER BY 1"
    )
    names = ("language", "repositories", "images", "instances", "train", "val", "test")
    return [dict(zip(names, row, strict=True)) for row in _ask(folder, query, ())]


def _ask(folder: Path, query: str, values: tuple[object, ...]) -> Iterator[Any]:
    path = folder / big_index.FILE
    if not path.is_file():
        raise BadTaskFormat(path, "missing", f"Write it: tgym registry index {folder}.")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        yield from connection.execute(query, values)
    except sqlite3.Error as error:
        raise BadTaskFormat(path, f"no index: {error}", "Write it anew: tgym registry index.") from error
    finally:
        connection.close()
