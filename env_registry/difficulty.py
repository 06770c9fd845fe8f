"""How difficult a task is, by how often agents solved it: run folders → easy, medium or hard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from terminal_gym.trajectory.metrics import Tally, tally
from terminal_gym.trajectory.store import Row, Run

LEAST = 4  # judged attempts: below, what the writer said stays
_EASY, _MEDIUM = 2 / 3, 1 / 3


def solved(runs: Iterable[Path]) -> dict[str, Tally]:
    """Return how the attempts of all these runs ended, by the content hash of the task that was played.

    Raises:
        BadSetting: A folder holds no run.
        ForgedRecord: An index is not what was written.
    """
    rows = defaultdict[str, list[Row]](list)
    for folder in runs:
        for row in Run(folder).standing.values():
            rows[row.task_hash].append(row)
    return {hash: tally(some) for hash, some in rows.items()}


def measured(row: Mapping[str, Any], by_hash: Mapping[str, Tally], *, least: int = LEAST) -> dict[str, Any]:
    """Return a catalogue row with the difficulty that rollouts show: easy from two solved in three on, medium from one.

    Attempts at another version of the task do not count, and broken ones neither; fewer than `least` leave what stood
    there. `difficulty_by` says which it is.
    """
    found = by_hash.get(str(row["hash"]), Tally())
    rate = found.solve_rate
    cells = {"difficulty_by": "writer", "solve_rate": rate, "judged": found.judged}
    if rate is None or found.judged < least:
        return {**row, **cells}
    level = "easy" if rate >= _EASY else "medium" if rate >= _MEDIUM else "hard"
    return {**row, **cells, "difficulty": level, "difficulty_by": "rollouts"}
