"""What a run amounts to: the funnel, solve rates, pass@k with intervals. Broken attempts are counted apart.

Source: pass@k, the unbiased estimator of Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section
2.1; Wilson's score interval, Wilson 1927.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from terminal_gym.trajectory.store import Row

BANDS = ("never", "rarely", "sometimes", "often", "always")
_Z = 1.959964  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Tally:
    """How the attempts at one task, or at all of them, ended."""

    attempts: int = 0  # on record
    passed: int = 0
    failed: int = 0
    broken: int = 0  # no verdict: neither for nor against the agent
    cut_short: int = 0  # of the judged: ended by a limit and not by the agent
    steps: int = 0
    turns: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0  # of all episodes, one after the other

    @property
    def judged(self) -> int:
        return self.passed + self.failed

    @property
    def solve_rate(self) -> float | None:
        """Share of the judged attempts that passed; None where none was judged."""
        return self.passed / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the solve rate."""
        return wilson(self.passed, self.judged) if self.judged else None

    @property
    def band(self) -> str:
        """How often it was solved, in one of BANDS; "unknown" where nothing was judged."""
        rate = self.solve_rate
        if rate is None:
            return "unknown"
        if rate in (0.0, 1.0):
            return "always" if rate else "never"
        return "rarely" if rate < 1 / 3 else "sometimes" if rate < 2 / 3 else "often"


def tally(rows: Iterable[Row]) -> Tally:
    """Return how these attempts ended."""
    listed = list(rows)
    by_status = {
        status: sum(row.status == status for row in listed) for status in ("passed", "failed", "broken")
    }
    return Tally(
        attempts=len(listed),
        passed=by_status["passed"],
        failed=by_status["failed"],
        broken=by_status["broken"],
        cut_short=sum(bool(row.limit) for row in listed if row.status != "broken"),
        steps=sum(row.steps for row in listed),
        turns=sum(row.turns for row in listed),
        prompt_tokens=sum(row.prompt_tokens for row in listed),
        completion_tokens=sum(row.completion_tokens for row in listed),
        cost_usd=sum(row.cost_usd or 0.0 for row in listed),
        seconds=sum(row.seconds for row in listed),
    )


def by_task(rows: Iterable[Row]) -> dict[str, Tally]:
    """Return a tally for each task, in the order in which tasks first appear."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.task, []).append(row)
    return {task: tally(group) for task, group in groups.items()}


def bands(tasks: Mapping[str, Tally]) -> dict[str, int]:
    """Return how many tasks are in each solve-rate band."""
    return {band: sum(one.band == band for one in tasks.values()) for band in (*BANDS, "unknown")}


def pass_at(k: int, tasks: Mapping[str, Tally]) -> float | None:
    """Return pass@k: the chance that one of k attempts at a task passes, averaged over tasks.

    None unless each task has at least k judged attempts.
    """
    if not tasks or any(one.judged < k for one in tasks.values()):
        return None
    return sum(_pass_at(k, one.judged, one.passed) for one in tasks.values()) / len(tasks)


def pass_at_ks(tasks: Mapping[str, Tally]) -> dict[int, float]:
    """Return pass@k for 1, the powers of two, and multiples of five, as far as the attempts go."""
    most = min((one.judged for one in tasks.values()), default=0)
    ks = [k for k in range(1, most + 1) if k & (k - 1) == 0 or k % 5 == 0]
    return {k: value for k in ks if (value := pass_at(k, tasks)) is not None}


def _pass_at(k: int, n: int, c: int) -> float:
    return 1.0 - math.prod((n - c - i) / (n - i) for i in range(k)) if n - c >= k else 1.0


def wilson(passed: int, judged: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate of `passed` of `judged`, judged > 0."""
    rate, z2 = passed / judged, _Z * _Z
    middle = (rate + z2 / (2 * judged)) / (1 + z2 / judged)
    half = _Z * math.sqrt(rate * (1 - rate) / judged + z2 / (4 * judged * judged)) / (1 + z2 / judged)
    return max(0.0, middle - half), min(1.0, middle + half)


def funnel(planned: int, rows: Sequence[Row]) -> dict[str, int]:
    """Return the paper's funnel: attempts planned, finished (a record), judged, passed; and the broken beside it."""
    all_of_them = tally(rows)
    return {
        "planned": planned,
        "finished": all_of_them.attempts,
        "judged": all_of_them.judged,
        "passed": all_of_them.passed,
        "broken": all_of_them.broken,
    }
