"""What a report says, as data: scores by each set of rules, comparisons, and everything that the numbers depend on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from benchmarks import published
from benchmarks.evaluate import overrides
from benchmarks.score import JUDGED, PHASES, RULES, Measured, Paired, Score, compare, holm, refusal, score
from terminal_gym.errors import BadSetting
from terminal_gym.rollout.job import Job
from terminal_gym.trajectory.record import Grading


@dataclass(frozen=True)
class Report:
    """Everything that is said about some runs."""

    runs: tuple[Measured, ...]
    scores: tuple[Mapping[Grading, Score], ...]  # of each run
    pairs: tuple[tuple[int, int, Paired], ...]  # (run, run, how they differ)
    seed: int

    @property
    def missing(self) -> int:
        """How many attempts have no verdict, over all runs."""
        return sum(len(one.missing()) for one in self.runs)

    def letter(self, at: int) -> str:
        """What a run is called in the report."""
        return chr(ord("A") + at) if at < 26 else f"R{at + 1}"


def make(runs: Sequence[Measured], *, allow_missing: bool = False, seed: int = 0) -> Report:
    """Return the report on these runs.

    Args:
        runs: One or more.
        allow_missing: Score also where attempts have no verdict.
        seed: Of bootstrap and permutation.

    Raises:
        BadSetting: There is no run, or an attempt without a verdict and no leave to go on.
    """
    if not runs:
        raise BadSetting("There is nothing to report on: name a run folder.")
    if not allow_missing:
        for one in runs:
            if one.missing():
                raise BadSetting(f"{one.folder}: {refusal(one.endings[one.grading], one.grading)}")
    scores = tuple(_scores(one, allow_missing=allow_missing, seed=seed) for one in runs)
    pairs = [
        (a, b, compare(runs[a], runs[b], rules, seed=seed))
        for a, b in itertools.combinations(range(len(runs)), 2)
        for rules in RULES
        if rules in scores[a] and rules in scores[b]
    ]
    corrected = holm([pair.p for _, _, pair in pairs])
    kept = tuple((a, b, replace(pair, p_holm=p)) for (a, b, pair), p in zip(pairs, corrected, strict=True))
    return Report(tuple(runs), scores, kept, seed)


def _scores(one: Measured, *, allow_missing: bool, seed: int) -> dict[Grading, Score]:
    """Return the score by the rules that made the reward, and by the others where they judged every attempt."""
    found: dict[Grading, Score] = {}
    for rules, endings in one.endings.items():
        whole = all(e.kind in JUDGED for e in endings)
        if rules == one.grading or whole or (allow_missing and any(e.kind in JUDGED for e in endings)):
            found[rules] = score(endings, rules, seed=seed, allow_missing=allow_missing)
    return found


def facts(one: Measured) -> dict[str, Any]:
    """Return what a score depends on, by name."""
    job = job_of(one)
    return {
        "benchmark": one.benchmark or "none",
        "task_set": one.digest,
        "tasks": len(one.tasks),
        "attempts": one.attempts,
        "agent": one.settings.get("agent", ""),
        "agent_settings": one.settings.get("agent_settings") or {},
        "model": one.settings.get("model", ""),
        "model_settings": one.settings.get("model_settings") or {},
        "prompts": one.versions.get("prompts", "unknown"),
        "terminal_gym": one.versions.get("terminal-gym", "unknown"),
        "python": one.versions.get("python", "unknown"),
        "runtime": ", ".join(one.runtimes),
        "graded_by": one.grading,
        "limits": "the tasks' own"
        if not (changed := overrides(job))
        else "OVERRIDDEN: " + ", ".join(changed),
        "seed": one.settings.get("seed"),
        "prompt_tokens": one.tokens[0],
        "completion_tokens": one.tokens[1],
        "cost_usd": one.cost_usd,
        "ended_by_limit": dict(one.limits_met),
        "notes": dict(one.notes),
        "images": dict(one.images),
    }


def job_of(one: Measured) -> Job:
    return Job(**one.settings)


def seconds(one: Measured) -> dict[str, dict[str, float]]:
    """Return what an episode's phases took: median, 95th percentile and sum, in seconds of wall clock."""
    if not one.seconds:
        return {}
    return {
        phase: {
            "median": median(took := [played[phase] for played in one.seconds]),
            "p95": float(np.percentile(took, 95)),
            "sum": sum(took),
        }
        for phase in PHASES
    }


def lines(report: Report) -> tuple[published.Line, ...]:
    versions = sorted({one.benchmark.rpartition("@")[2] for one in report.runs})
    return tuple(line for version in versions for line in published.lines(version))
