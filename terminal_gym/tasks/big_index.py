"""The index of a catalogue too large to be read at once: `index.sqlite`, opened in a moment, asked row by row.

One table `rows`, keyed by `id` (namespace/name), with `path` and `labels` (JSON), and `meta` with the version and the
number of rows. Columns that a writer adds are for its own queries. The file is opened read-only and never changed here.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from terminal_gym.errors import BadTaskFormat

FILE, VERSION = "index.sqlite", 1


class BigIndex(Mapping[str, tuple[str, Mapping[str, object]]]):
    """Id → (path, labels), in the order of the ids. Safe to use from many threads; one connection each.

    Raises:
        BadTaskFormat: The file is no index, or of another version.
    """

    def __init__(self, path: Path):
        self._path, self._local = path, threading.local()
        told = {str(key): str(value) for key, value in self._ask("SELECT key, value FROM meta")}
        if told.get("version") != str(VERSION):
            raise BadTaskFormat(
                path, f"version {told.get('version')!r}", f"This version reads {VERSION}. Write it anew."
            )
        self._count = int(told["rows"])

    def __getitem__(self, id: str) -> tuple[str, Mapping[str, object]]:
        for path, labels in self._ask("SELECT path, labels FROM rows WHERE id = ?", id):
            return str(path), json.loads(str(labels))
        raise KeyError(id)

    def __iter__(self) -> Iterator[str]:
        for (id,) in self._ask("SELECT id FROM rows ORDER BY id"):
            yield str(id)

    def __len__(self) -> int:
        return self._count

    def near(self, id: str, *, most: int = 50) -> list[str]:
        """Return ids beside the place where `id` would stand: what a mistyped one is compared with."""
        half = most // 2
        after = self._ask("SELECT id FROM rows WHERE id >= ? ORDER BY id LIMIT ?", id, half)
        before = self._ask("SELECT id FROM rows WHERE id < ? ORDER BY id DESC LIMIT ?", id, half)
        return [str(one) for (one,) in (*before, *after)]

    def _ask(self, query: str, *values: object) -> Iterator[tuple[object, ...]]:
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = sqlite3.connect(
                    f"{self._path.absolute().as_uri()}?mode=ro&immutable=1", uri=True
                )
                self._local.connection = connection
            yield from connection.execute(query, values)
        except sqlite3.Error as error:
            raise BadTaskFormat(
                self._path, f"no index: {error}", "Write it anew: tgym registry index."
            ) from error
