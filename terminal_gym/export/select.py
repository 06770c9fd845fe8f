"""The quality gate: which attempts enter a data set, and why the others do not. Only a verdict lets one in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.metrics import BANDS, by_task
from terminal_gym.trajectory.record import Status
from terminal_gym.trajectory.store import Row


@dataclass(frozen=True)
class Gate:
    """What is asked of an attempt."""

    statuses: tuple[Status, ...] = ("passed",)
    per_task: int | None = None  # at most so many of one task, the first ones
    most_turns: int | None = None
    bands: tuple[str, ...] = ()  # solve-rate bands of the task that are let in; (): all
    cut_short: bool = True  # let in what a limit ended, where the verdict is right
    liked: frozenset[str] | None = (
        None  # hashes of the records that somebody else lets in; None: nobody is asked
    )

    def __post_init__(self) -> None:
        if unknown := set(self.bands) - set(BANDS):
            raise BadSetting(f"{sorted(unknown)[0]!r} is no solve-rate band. Known: {', '.join(BANDS)}.")


@dataclass(frozen=True)
class Chosen:
    """What came through the gate, and a count of the reasons why the rest did not."""

    rows: tuple[Row, ...]
    dropped: dict[str, int]


def choose(rows: Iterable[Row], gate: Gate) -> Chosen:
    """Return the rows that enter, in their order."""
    listed = list(rows)
    tasks = by_task(listed)
    dropped, taken = Counter[str](), Counter[str]()
    kept: list[Row] = []
    for row in listed:
        why = _why_not(row, gate, band=tasks[row.task].band, taken=taken[row.task])
        if why:
            dropped[why] += 1
        else:
            taken[row.task] += 1
            kept.append(row)
    return Chosen(tuple(kept), dict(dropped))


def _why_not(row: Row, gate: Gate, *, band: str, taken: int) -> str:
    if row.status not in gate.statuses:
        return row.status
    if gate.liked is not None and row.sha256 not in gate.liked:
        return "not solved, says the model"
    if row.limit and not gate.cut_short:
        return "cut short by a limit"
    if gate.most_turns is not None and row.turns > gate.most_turns:
        return f"more than {gate.most_turns} turns"
    if gate.bands and band not in gate.bands:
        return f"task is solved {band}"
    if gate.per_task is not None and taken >= gate.per_task:
        return f"more than {gate.per_task} of one task"
    return ""
