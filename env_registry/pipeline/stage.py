"""One stage of the pipeline: reads items, appends one row for each to its table, and never does one twice.

    WORK/collect.jsonl     one chained line per item (see terminal_gym/trajectory/chain.py)
    WORK/lock              held by the process that appends

A row has `key`, `kept`, `reason` ("" where it is kept, else one word from the stage's list), `detail` (what was found)
and `seconds`; everything else is the stage's own. An item whose machine failed has no row and is tried again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from env_registry.pipeline.spent import Spent
from terminal_gym.errors import SandboxError, TaskError
from terminal_gym.trajectory.chain import Appender, read_lines, sealed
from terminal_gym.trajectory.store import put_aside

STAGES = ("collect", "score", "build", "generate", "accept")
_DETAIL = 2_000  # characters kept of what was found
Item = TypeVar("Item")


class Rejected(Exception):
    """An item does not go on. `reason` is one word of the stage's list, `detail` says what was found."""

    def __init__(self, reason: str, detail: str = "", **cells: object):
        self.reason, self.detail, self.cells = reason, detail, cells
        super().__init__(f"{reason}: {detail}" if detail else reason)


@dataclass(frozen=True)
class Row:
    """One line of a stage's table."""

    key: str
    kept: bool
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0
    cells: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> Self:
        """Return the row of a line."""
        rest = dict(line)
        key, kept = rest.pop("key"), rest.pop("kept")
        return cls(key, kept, rest.pop("reason"), rest.pop("detail"), rest.pop("seconds"), rest)

    def line(self) -> dict[str, Any]:
        """Return what is written as JSON."""
        plain = {"key": self.key, "kept": self.kept, "reason": self.reason, "detail": self.detail}
        return {**plain, "seconds": round(self.seconds, 3), **self.cells}


class Table:
    """The table of one stage; the caller holds the lock of the folder while it appends.

    Raises:
        ForgedRecord: A line is not what was written.
    """

    def __init__(self, work: Path, stage: str):
        self.path = work / f"{stage}.jsonl"
        self.stage = stage
        self._appender: Appender | None = None
        lines = read_lines(self.path)
        self._end = lines.upto(len(lines.rows))
        self.rows = {row.key: row for row in map(Row.read, lines.rows)}

    @property
    def kept(self) -> list[Row]:
        """The rows that go on to the next stage, in the order in which they were decided."""
        return [row for row in self.rows.values() if row.kept]

    def append(self, row: Row) -> None:
        """Write one row; it is on the disk when this returns.

        Raises:
            StoreError: It cannot be written; nothing of it was kept.
        """
        if self._appender is None:
            put_aside(self.path.parent, self.path.name, after=self._end[0])
            self._appender = Appender(self.path, size=self._end[0])
        line, chain = sealed(row.line(), after=self._end[1])
        self._appender.append(line)
        self._end = self._appender.size, chain
        self.rows[row.key] = row

    def close(self) -> None:
        """Close the file. Safe to call again."""
        if self._appender is not None:
            self._appender.close()
            self._appender = None


@dataclass(frozen=True)
class Told:
    """What one run of a stage did."""

    stage: str
    known: int  # items that had a row before
    kept: int
    rejected: Mapping[str, int]  # by reason
    broken: int  # the machine failed; tried again the next time
    seconds: float
    spent: Spent = field(default_factory=Spent)  # by the models that were asked


def run_stage(
    table: Table,
    items: Iterable[tuple[str, Item]],
    work: Callable[[Item], Mapping[str, Any]],
    *,
    parallel: int = 1,
    progress: Callable[[Row], None] = lambda row: None,
) -> Told:
    """Decide every item that has no row yet; rows are appended as they are decided.

    Args:
        table: Closed at the end.
        items: (key, item), keys unique.
        work: Returns the cells of an item that is kept; raises Rejected, or a TaskError, for one that is not.
        parallel: Items at once, each on a thread.
        progress: Told of each row once it is on the disk.

    Raises:
        StoreError: The table cannot be written.
    """
    began, decided, broken, spent = time.monotonic(), Counter[str](), 0, Spent()
    left = [(key, item) for key, item in items if key not in table.rows]
    known = len(table.rows)
    try:
        with ThreadPoolExecutor(parallel, thread_name_prefix=f"tgym-{table.stage}") as pool:
            waiting = iter(left)
            running: set[Future[Row]] = set()
            try:
                while True:
                    while len(running) < parallel and (one := next(waiting, None)) is not None:
                        running.add(pool.submit(_decided, one[0], one[1], work))
                    if not running:
                        break
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        try:
                            row = future.result()
                        except SandboxError as error:
                            broken += 1
                            progress(Row("", False, "broken", str(error)[:_DETAIL]))
                            continue
                        table.append(row)
                        decided[row.reason] += 1
                        spent += Spent.in_rows([row.cells])
                        progress(row)
            finally:
                for future in running:
                    future.cancel()
    finally:
        table.close()
    kept = decided.pop("", 0)
    return Told(table.stage, known, kept, dict(decided), broken, time.monotonic() - began, spent)


def _decided(key: str, item: Item, work: Callable[[Item], Mapping[str, Any]]) -> Row:
    began = time.monotonic()
    try:
        cells = work(item)
    except Rejected as no:
        return Row(key, False, no.reason, _plain(no.detail), time.monotonic() - began, no.cells)
    except TaskError as error:
        reason, detail = type(error).__name__, _plain(str(error))
        return Row(key, False, reason, detail, time.monotonic() - began)
    return Row(key, True, "", "", time.monotonic() - began, cells)


def _plain(text: str) -> str:
    """The end of a text, without what JSON cannot carry."""
    return text[-_DETAIL:].encode("utf-8", "replace").decode("utf-8")
