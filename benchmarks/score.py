"""What an evaluation amounts to: how each attempt ended, pass@k with intervals over tasks, and paired comparisons.

An attempt without a verdict (broken, or never played) is *missing*: no score is made of a set with missing attempts
unless that is asked for, and then the score says between which bounds the missing ones leave it.

Source: pass@k, the unbiased estimator of Chen et al. 2021, section 2.1; percentile bootstrap over tasks, Efron and
Tibshirani 1993, chapter 13; sign-flip permutation test, Fisher 1935; Holm 1979 for several comparisons.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import terminal_bench
from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.metrics import Tally, pass_at
from terminal_gym.trajectory.record import Graded, Grading, Trajectory
from terminal_gym.trajectory.store import Run

Kind = Literal["passed", "failed", "timed_out", "broken", "not_played"]
KINDS: tuple[Kind, ...] = ("passed", "failed", "timed_out", "broken", "not_played")
JUDGED: tuple[Kind, ...] = ("passed", "failed", "timed_out")
RULES: tuple[Grading, ...] = ("parity", "strict")
PHASES = ("reset", "agent", "model", "verify", "total")
RESAMPLES = 10_000
_EXACT = 14  # differing tasks up to which every sign pattern is tried: 2^14
Interval = tuple[float, float]


@dataclass(frozen=True)
class Ending:
    """How one attempt ended, by one set of rules."""

    task: str  # its own name
    attempt: int
    kind: Kind
    reward: float | None = None
    reason: str = ""
    error: str = ""  # what the format's own harness calls it where it gave no verdict
    integrity: tuple[str, ...] = ()
    late: bool = False  # the agent's time was up


@dataclass(frozen=True)
class Difference:
    """An attempt on which the two sets of rules disagree."""

    task: str
    attempt: int
    parity: Ending
    strict: Ending


@dataclass(frozen=True)
class Measured:
    """A run folder as an evaluation: everything that a report says of it."""

    folder: Path
    settings: Mapping[str, Any]
    tasks: tuple[str, ...]  # own names, in the order in which they were asked for
    attempts: int
    grading: Grading  # whose verdict was the reward
    endings: Mapping[
        Grading, tuple[Ending, ...]
    ]  # every planned attempt, by each set of rules that judged any
    seconds: tuple[Mapping[str, float], ...]  # of each played attempt, by PHASES
    versions: Mapping[str, str]
    runtimes: tuple[str, ...]
    images: Mapping[str, str]  # task → digest of its image
    limits_met: Mapping[str, int]  # what ended episodes → how many
    notes: Mapping[str, int]  # what was not as upstream has it → attempts
    tokens: tuple[int, int]  # prompt, completion
    cost_usd: float | None  # None: the price of some call is not known

    @property
    def benchmark(self) -> str:
        """Such as "terminal-bench@2.0"; "" for a run that is none."""
        return str((self.settings.get("labels") or {}).get("benchmark", ""))

    @property
    def digest(self) -> str:
        """Names the set of tasks."""
        return terminal_bench.digest(self.settings.get("tasks") or {})

    @property
    def played_by(self) -> str:
        """Agent and model."""
        agent, model = self.settings.get("agent", "?"), self.settings.get("model")
        return f"{agent} with {model}" if model else str(agent)

    def missing(self, rules: Grading | None = None) -> tuple[Ending, ...]:
        """Return the attempts without a verdict by these rules; None: by those that made the reward."""
        return tuple(e for e in self.endings[rules or self.grading] if e.kind not in JUDGED)


@dataclass(frozen=True)
class Score:
    """A score by one set of rules."""

    rules: Grading
    counts: Mapping[Kind, int]
    passed_late: int  # of the passed: the agent's time was up
    tasks: int  # with a verdict
    planned_tasks: int
    rate: float  # mean over tasks of the share that passed
    pass_at: Mapping[int, tuple[float, Interval]] = field(default_factory=dict)  # k → value, 95 % interval
    bounds: Interval | None = (
        None  # of the rate, if every missing attempt had failed, or passed; None: none is missing
    )
    errors: Mapping[str, int] = field(
        default_factory=dict
    )  # of the failed: upstream's harness gives no verdict, and 0
    mean_reward: float | None = None  # where a reward lies between 0 and 1

    @property
    def planned(self) -> int:
        return sum(self.counts.values())


def read(folder: Path) -> Measured:
    """Return a run folder as an evaluation.

    Raises:
        BadSetting: It holds no run, or one that was not made by a rollout.
        StoreError: It cannot be read.
    """
    run = Run(folder)
    asked = run.settings.get("tasks")
    if not isinstance(asked, dict) or not asked or "attempts" not in run.settings:
        raise BadSetting(f"{folder} was not made by `tgym bench terminal-bench` or `tgym rollout`.")
    tasks = tuple(terminal_bench.name_of(ref) for ref in asked)
    attempts = int(run.settings["attempts"])
    heap = _Heap()
    for played in run:
        heap.add(played)
    planned = [(task, k) for task in tasks for k in range(attempts)]
    endings: dict[Grading, tuple[Ending, ...]] = {}
    for rules in RULES:
        known = heap.endings[rules]
        if known or rules == heap.grading:
            endings[rules] = tuple(known.get(key) or _none(key, heap.played) for key in planned)
    return Measured(
        folder=Path(folder),
        settings=run.settings,
        tasks=tasks,
        attempts=attempts,
        grading=heap.grading,
        endings=endings,
        seconds=tuple(heap.seconds),
        versions=heap.versions,
        runtimes=tuple(sorted(heap.runtimes)),
        images=heap.images,
        limits_met=heap.limits,
        notes=heap.notes,
        tokens=(heap.prompt_tokens, heap.completion_tokens),
        cost_usd=heap.cost_usd,
    )


class _Heap:
    """What is gathered from trajectories, one at a time."""

    def __init__(self) -> None:
        self.endings: dict[Grading, dict[tuple[str, int], Ending]] = {rules: {} for rules in RULES}
        self.grading: Grading = "strict"
        self.seconds: list[dict[str, float]] = []
        self.versions: dict[str, str] = {}
        self.runtimes: set[str] = set()
        self.images: dict[str, str] = {}
        self.limits: dict[str, int] = {}
        self.notes: dict[str, int] = {}
        self.played: dict[tuple[str, int], str] = {}  # → why it is broken
        self.prompt_tokens = self.completion_tokens = 0
        self.cost_usd: float | None = 0.0

    def add(self, played: Trajectory) -> None:
        name, outcome = terminal_bench.name_of(played.task), played.outcome
        self.played[name, played.attempt] = outcome.reason
        if outcome.status != "broken" or outcome.beside is not None:
            self.grading = outcome.grading
        for rules, graded in (("strict", outcome.strict), ("parity", outcome.parity)):
            if graded is not None:
                ending = _ending(name, played, graded)
                self.endings[rules][ending.task, ending.attempt] = ending  # type: ignore[index]
        if played.seconds:
            model_s = sum(turn.seconds for turn in played.turns)
            self.seconds.append({**dict.fromkeys(PHASES, 0.0), **played.seconds, "model": model_s})
        self.versions |= dict(played.versions)
        self.runtimes.add(played.runtime)
        if played.image_digest:
            self.images[name] = played.image_digest
        if played.limit:
            self.limits[played.limit] = self.limits.get(played.limit, 0) + 1
        for note in outcome.notes:
            self.notes[note] = self.notes.get(note, 0) + 1
        usage = played.usage
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        known = self.cost_usd is not None and (usage.cost_usd is not None or not played.turns)
        self.cost_usd = (self.cost_usd or 0.0) + (usage.cost_usd or 0.0) if known else None


def _ending(name: str, played: Trajectory, graded: Graded) -> Ending:
    late = played.limit.endswith(" s")  # a limit of seconds, and not of steps
    return Ending(
        task=name,
        attempt=played.attempt,
        kind="timed_out" if late and graded.status == "failed" else graded.status,
        reward=graded.reward,
        reason=graded.reason,
        error=graded.error,
        integrity=tuple(graded.integrity),
        late=late,
    )


def _none(key: tuple[str, int], played: Mapping[tuple[str, int], str]) -> Ending:
    """Return the ending of an attempt that these rules say nothing of."""
    if key in played:
        return Ending(*key, "broken", reason=played[key] or "no verdict by these rules")
    return Ending(*key, "not_played", reason="not on record")


# ── one run ─────────────────────────────────────────────────────────────────────────────────────


def score(endings: Sequence[Ending], rules: Grading, *, seed: int = 0, allow_missing: bool = False) -> Score:
    """Return the score of a run by one set of rules.

    Args:
        endings: Of every planned attempt.
        rules: By which they ended so.
        seed: Of the bootstrap.
        allow_missing: Make a score also where attempts have no verdict: of those that have one.

    Raises:
        BadSetting: Attempts have no verdict, and that is not allowed; or none has one.
    """
    counts = {kind: sum(e.kind == kind for e in endings) for kind in KINDS}
    gone = counts["broken"] + counts["not_played"]
    if gone and not allow_missing:
        raise BadSetting(refusal(endings, rules))
    groups = by_task(endings)
    tallies = {task: tally for task, group in groups.items() if (tally := _tally(group)).judged}
    if not tallies:
        raise BadSetting(f"No attempt has a verdict by the {rules} rules: there is nothing to score.")
    most = min(tally.judged for tally in tallies.values())
    values = np.array([[_at(k, tally) for k in range(1, most + 1)] for tally in tallies.values()])
    intervals = bootstrap(values, seed=seed)
    planned = len(endings)
    rewards = [e.reward for e in endings if e.reward is not None]
    return Score(
        rules=rules,
        counts=counts,
        passed_late=sum(e.kind == "passed" and e.late for e in endings),
        tasks=len(tallies),
        planned_tasks=len(groups),
        rate=float(values[:, 0].mean()),
        pass_at={
            k: (float(values[:, k - 1].mean()), interval)
            for k, interval in zip(range(1, most + 1), intervals, strict=True)
        },
        bounds=(counts["passed"] / planned, (counts["passed"] + gone) / planned) if gone else None,
        errors=Counter(e.error for e in endings if e.error and e.kind in JUDGED),
        mean_reward=float(np.mean(rewards)) if any(r not in (0.0, 1.0) for r in rewards) else None,
    )


def refusal(endings: Iterable[Ending], rules: Grading) -> str:
    """Return why there is no score: which attempts have no verdict, and what to do."""
    gone = [e for e in endings if e.kind not in JUDGED]
    counts = ", ".join(
        f"{number} {kind.replace('_', ' ')}"
        for kind in ("broken", "not_played")
        if (number := sum(e.kind == kind for e in gone))
    )
    first = "; ".join(f"{e.task} {e.attempt}: {e.reason[:120] or e.error}" for e in gone[:3])
    return (
        f"No score: {len(gone)} attempts have no verdict by the {rules} rules ({counts}), e.g. {first}. Play them "
        "(--resume RUN, --retry-broken), or say --allow-missing: then every output says so."
    )


def by_task(endings: Iterable[Ending]) -> dict[str, list[Ending]]:
    """Return the endings of each task."""
    groups: dict[str, list[Ending]] = {}
    for ending in endings:
        groups.setdefault(ending.task, []).append(ending)
    return groups


def _tally(group: Iterable[Ending]) -> Tally:
    kinds = [e.kind for e in group]
    passed = kinds.count("passed")
    return Tally(attempts=len(kinds), passed=passed, failed=kinds.count("failed") + kinds.count("timed_out"))


def _at(k: int, tally: Tally) -> float:
    value = pass_at(k, {"": tally})
    assert value is not None
    return value


def bootstrap(values: np.ndarray, *, seed: int, resamples: int = RESAMPLES) -> list[Interval]:
    """Return the 95 % percentile intervals of the means of `values`, `(tasks, k)`, resampling tasks."""
    count = len(values)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    low, high = np.percentile(weights @ values / count, [2.5, 97.5], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


# ── several runs ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Paired:
    """Two runs on the same tasks, by the same rules."""

    rules: Grading
    tasks: int  # that both have a verdict on, with the same content
    left_out: int  # tasks of either that the other does not share
    difference: float  # second minus first: mean over tasks of the difference of their rates
    interval: Interval
    better: int  # tasks at which the second passed more often
    worse: int
    p: float  # two-sided
    p_holm: float  # corrected for the number of comparisons in the report


def compare(a: Measured, b: Measured, rules: Grading, *, seed: int = 0) -> Paired:
    """Return how two runs differ over the tasks that they share.

    Raises:
        BadSetting: They share none, or one was not judged by these rules.
    """
    hashes = [
        {terminal_bench.name_of(ref): known for ref, known in (one.settings.get("tasks") or {}).items()}
        for one in (a, b)
    ]
    for one in (a, b):
        if rules not in one.endings:
            raise BadSetting(f"{one.folder} was not judged by the {rules} rules.")
    rates = [
        {t: y.passed / y.judged for t, y in _tallies(one.endings[rules]).items() if y.judged}
        for one in (a, b)
    ]
    shared = [
        task
        for task in a.tasks
        if all(task in rate for rate in rates) and hashes[0][task] == hashes[1].get(task)
    ]
    if not shared:
        raise BadSetting(f"{a.folder} and {b.folder} share no task with a verdict in both.")
    differences = np.array([rates[1][task] - rates[0][task] for task in shared])
    (interval,) = bootstrap(differences[:, None], seed=seed)
    p = sign_flip(differences, seed=seed)
    return Paired(
        rules=rules,
        tasks=len(shared),
        left_out=len(set(a.tasks) | set(b.tasks)) - len(shared),
        difference=float(differences.mean()),
        interval=interval,
        better=int((differences > 0).sum()),
        worse=int((differences < 0).sum()),
        p=p,
        p_holm=p,
    )


def _tallies(endings: Iterable[Ending]) -> dict[str, Tally]:
    return {task: _tally(group) for task, group in by_task(endings).items()}


def sign_flip(differences: np.ndarray, *, seed: int, resamples: int = 20_000) -> float:
    """Return the two-sided p of the paired permutation test: how often chance alone gives a sum as far from zero.

    Exact where few pairs differ; else by `resamples` random flips, which count the observed one as well.
    """
    moved = differences[differences != 0]
    seen = abs(moved.sum()) - 1e-12
    if not len(moved):
        return 1.0
    if len(moved) <= _EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(moved))))
        return float((abs(signs @ moved) >= seen).mean())
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(resamples, len(moved)))
    return float(((abs(signs @ moved) >= seen).sum() + 1) / (resamples + 1))


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in the same order."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    corrected, least = [0.0] * len(ps), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, ps[at] * (len(ps) - rank)))
        corrected[at] = least
    return corrected


def differences(one: Measured) -> list[Difference]:
    """Return the attempts on which the two sets of rules disagree."""
    if not all(rules in one.endings for rules in RULES):
        return []
    pairs = zip(one.endings["parity"], one.endings["strict"], strict=True)
    return [
        Difference(p.task, p.attempt, p, s)
        for p, s in pairs
        if (p.kind == "passed") != (s.kind == "passed") or (p.kind in JUDGED) != (s.kind in JUDGED)
    ]
