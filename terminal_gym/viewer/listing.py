"""What the list shows: rows of a run's index, filtered, sorted and cut into pages; sums and charts. Reads no record."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from terminal_gym.errors import BadSetting, ForgedRecord, UnknownName
from terminal_gym.trajectory.metrics import Tally, bands, by_task, funnel, pass_at_ks, tally, wilson
from terminal_gym.trajectory.store import INDEX, Row, Run

LONGEST_PAGE = 500
Numbered = tuple[int, Row]  # the number is the row's place in the index, which never changes

_SORTS: dict[str, Callable[[Row], Any]] = {
    "began_at": lambda row: row.began_at,
    "task": lambda row: row.task,
    "attempt": lambda row: row.attempt,
    "agent": lambda row: row.agent,
    "model": lambda row: row.model,
    "status": lambda row: row.status,
    "limit": lambda row: row.limit,
    "steps": lambda row: row.steps,
    "seconds": lambda row: row.seconds,
    "tokens": lambda row: row.prompt_tokens + row.completion_tokens,
}
_TASK_SORTS: dict[str, Callable[[tuple[str, Tally]], Any]] = {
    "task": lambda one: one[0],
    "rate": lambda one: (one[1].solve_rate is None, one[1].solve_rate or 0.0, one[0]),
    "attempts": lambda one: (one[1].attempts, one[0]),
}


@dataclass(frozen=True)
class Query:
    """What is asked of a list."""

    text: str = ""  # somewhere in task, agent, model, limit or reason; upper and lower case are one
    status: str = ""  # "": any
    task: str = ""  # exactly; "": any
    sort: str = ""  # a key of the list's sorts; "": as recorded
    descending: bool = False
    offset: int = 0
    limit: int = 100

    def __post_init__(self) -> None:
        if self.status not in ("", "passed", "failed", "broken"):
            raise UnknownName("status", self.status, known=["passed", "failed", "broken"])
        if self.offset < 0 or not 0 < self.limit <= LONGEST_PAGE:
            raise BadSetting(
                f"offset is 0 or more and limit 1 to {LONGEST_PAGE}, not {self.offset}, {self.limit}."
            )


def matching(rows: Sequence[Numbered], query: Query) -> list[Numbered]:
    """Return the rows of that text and task, whatever their status."""
    wanted = query.text.casefold()
    if query.task:
        rows = [one for one in rows if one[1].task == query.task]
    return [one for one in rows if wanted in _text(one[1])] if wanted else list(rows)


def _text(row: Row) -> str:
    return f"{row.task}\n{row.agent}\n{row.model}\n{row.limit}\n{row.reason}".casefold()


def ordered(rows: list[Numbered], query: Query) -> list[Numbered]:
    """Return the rows of the wanted status in the wanted order."""
    if query.status:
        rows = [one for one in rows if one[1].status == query.status]
    if query.sort:
        key = _known_sort(_SORTS, query.sort)
        return sorted(rows, key=lambda one: key(one[1]), reverse=query.descending)
    return rows[::-1] if query.descending else rows


def _known_sort(sorts: dict[str, Any], name: str) -> Callable[[Any], Any]:
    if name not in sorts:
        raise UnknownName("column", name, known=sorts)
    chosen: Callable[[Any], Any] = sorts[name]
    return chosen


class Listing:
    """One run, followed while it grows. Safe to use from many threads.

    Raises:
        BadSetting: There is no run in this folder.
        StoreError: Its index cannot be read, or is not what was written.
    """

    def __init__(self, folder: Path | str):
        self._mutex = threading.Lock()
        self.run = Run(folder)
        self._taken_in()

    def _taken_in(self) -> None:
        standing = self.run.standing
        self.rows: tuple[Numbered, ...] = tuple(
            (number, row) for number, row in enumerate(self.run.rows) if standing[row.key] is row
        )
        self.tasks: dict[str, Tally] = by_task(row for _, row in self.rows)
        self._in_order: dict[str, list[tuple[str, Tally]]] = {"": list(self.tasks.items())}
        self._summary = self._sums()

    def refresh(self) -> None:
        """Take in what was written since; a folder that was begun anew is opened anew."""
        with self._mutex:
            try:
                grown = self.run.refresh()
            except ForgedRecord:
                self.run, grown = Run(self.run.folder), 1
            if grown:
                self._taken_in()

    def row(self, number: int) -> Row:
        """Return the row of that number.

        Raises:
            UnknownName: There is none.
        """
        rows = self.run.rows
        if not 0 <= number < len(rows):
            raise UnknownName("record of this run", str(number), known=())
        return rows[number]

    def attempts_at(self, task: str) -> list[dict[str, object]]:
        """Return number, attempt and status of every attempt at a task."""
        found = [one for one in self.rows if one[1].task == task]
        return [
            {"n": number, "attempt": row.attempt, "status": row.status}
            for number, row in sorted(found, key=lambda one: one[1].attempt)
        ]

    def summary(self) -> dict[str, Any]:
        """Return the funnel, rates, pass@k and bands; broken attempts counted apart."""
        index = self.run.folder / INDEX
        return self._summary | {"changed_at": index.stat().st_mtime if index.exists() else None}

    def _sums(self) -> dict[str, Any]:
        rows = [row for _, row in self.rows]
        told, settings = tally(rows), self.run.settings
        planned = len(settings.get("tasks", ())) * int(settings.get("attempts", 0))
        return {
            "folder": str(self.run.folder),
            "name": self.run.folder.resolve().name,
            "agents": sorted({row.agent for row in rows})[:20],
            "models": sorted({row.model for row in rows if row.model})[:20],
            "runtimes": sorted({row.runtime for row in rows})[:20],
            "tasks": len(self.tasks),
            "revision": len(self.run.rows),
            "funnel": funnel(planned or len(rows), rows),
            "failed": told.failed,
            "solve_rate": told.solve_rate,
            "interval": told.interval,
            "cut_short": told.cut_short,
            "steps": told.steps,
            "tokens": {"prompt": told.prompt_tokens, "completion": told.completion_tokens},
            "cost_usd": told.cost_usd,
            "seconds": told.seconds,
            "pass_at_k": list(pass_at_ks(self.tasks).items()),
            "bands": bands(self.tasks),
        }

    def attempts(self, query: Query) -> dict[str, Any]:
        """Return one page of attempts, and how many there are of each status."""
        found = matching(self.rows, query)
        counts = Counter(row.status for _, row in found)
        listed = ordered(found, query)
        page = listed[query.offset : query.offset + query.limit]
        return {
            "revision": len(self.run.rows),
            "total": len(self.rows),
            "found": len(listed),
            "statuses": {status: counts[status] for status in ("passed", "failed", "broken")},
            "rows": [{"n": number, **_cells(row)} for number, row in page],
        }

    def task_rates(self, query: Query) -> dict[str, Any]:
        """Return one page of tasks with how their attempts ended."""
        wanted, in_order = query.text.casefold(), self._in_order
        if query.sort not in in_order:
            in_order[query.sort] = sorted(self.tasks.items(), key=_known_sort(_TASK_SORTS, query.sort))
        found = in_order[query.sort]
        if wanted:
            found = [one for one in found if wanted in one[0].casefold()]
        if query.descending:
            found = found[::-1]
        page = found[query.offset : query.offset + query.limit]
        return {"found": len(found), "rows": [_rates(task, one) for task, one in page]}


def _cells(row: Row) -> dict[str, object]:
    cells = asdict(row)
    for name in ("offset", "length", "sha256", "task_hash"):
        del cells[name]
    return cells | {"tokens": row.prompt_tokens + row.completion_tokens}


def _rates(task: str, one: Tally) -> dict[str, object]:
    return {
        "task": task,
        "attempts": one.attempts,
        "passed": one.passed,
        "failed": one.failed,
        "broken": one.broken,
        "rate": one.solve_rate,
        "interval": wilson(one.passed, one.judged) if one.judged else None,
        "band": one.band,
    }
