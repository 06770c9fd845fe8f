"""The official harnesses and ours on the same cases, one batch after the other: verdicts that must agree."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.evaluate import make_job
from benchmarks.parity import official
from benchmarks.parity.cases import CASES, FORMATS, Case, Format, digest
from benchmarks.parity.official import Official, Said
from terminal_gym.rollout.engine import Bounds
from terminal_gym.rollout.job import Job, open_rollout
from terminal_gym.sandbox.base import Runtime
from terminal_gym.trajectory.record import Graded, Trajectory
from terminal_gym.trajectory.store import Run

_SUITES: dict[Format, str] = {"terminal-bench": "1.0", "harbor": "2.0"}


@dataclass(frozen=True)
class Ours:
    """One trial, as ours recorded it."""

    task: str
    agent: str
    said: Said  # by the format's own rules
    reward: float | None
    error: str
    strict: str  # our own verdict on the same episode
    seconds: float


@dataclass(frozen=True)
class Pair:
    """A trial there and here."""

    format: Format
    task: str
    agent: str
    official: Said
    official_error: str
    official_reward: float
    ours: Said
    ours_error: str
    ours_reward: float | None
    strict: str
    agree: bool
    defect: str  # of upstream, that explains why they do not; "" for none
    official_s: float
    ours_s: float
    case: str  # digest of what was played

    @property
    def explained(self) -> bool:
        """Whether they agree, or differ as the case says that they do."""
        return self.agree or bool(self.defect)


def play_ours(
    format: Format, agent: str, runtime: Runtime, *, tasks: Path, keys: Path, work: Path, concurrency: int
) -> list[Ours]:
    """Play every task below `tasks` with ours, by the format's own rules."""
    jobs = _jobs(format, agent, tasks, keys)
    found = []
    for number, job in enumerate(jobs):
        folder = work / f"run-{number}"
        with open_rollout(job, folder, runtime, bounds=Bounds(concurrency)) as rollout:
            rollout.run()
        found += [_ours(played, agent) for played in Run(folder)]
    return sorted(found, key=lambda one: one.task)


def _jobs(format: Format, agent: str, tasks: Path, keys: Path) -> list[Job]:
    """One job; recorded keys are a task's own, so that they take one job each."""
    version = _SUITES[format]
    names = sorted(path.name for path in tasks.iterdir())
    if agent != "keys":
        return [make_job(version, tasks, only=names, agent=agent, attempts=1)]
    return [
        make_job(
            version,
            tasks / name,
            agent="scripted",
            attempts=1,
            agent_settings={"script": str(keys / f"{name}.json")},
        )
        for name in names
    ]


def _ours(played: Trajectory, agent: str) -> Ours:
    outcome = played.outcome
    graded: Graded | Any = outcome.parity or outcome
    strict = outcome.strict.status if outcome.strict else "none"
    task = played.task.rpartition("/")[2]
    took = round(played.seconds.get("total", float("nan")), 2)
    return Ours(task, agent, said(graded), graded.reward, graded.error, strict, took)


def said(graded: Graded) -> Said:
    """Return what a verdict amounts to in the words of an official result."""
    if graded.error or graded.status == "broken":
        return "error"
    return "passed" if graded.status == "passed" else "failed"


def paired(there: Iterable[Official], here: Iterable[Ours]) -> list[Pair]:
    """Return the trials that both have, each with its case's explanation where they differ."""
    known = {(one.task, one.agent): one for one in here}
    return [_pair(one, known[one.task, one.agent]) for one in there if (one.task, one.agent) in known]


def _pair(there: Official, here: Ours) -> Pair:
    case = official.case_of(there.format, there.task)
    agree = there.said == here.said and (there.reward or 0.0) == (here.reward or 0.0)
    explains = not agree and case.defect and case.ours.get(here.agent) == here.said
    return Pair(
        there.format, there.task, there.agent, there.said, there.error,
        there.reward or 0.0, here.said, here.error, here.reward, here.strict,
        agree, case.defect if explains else "", there.seconds, here.seconds, digest(case),
    )  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Cases that are played together by one side and then by the other."""

    format: Format
    agent: str
    cases: tuple[str, ...]
    ours_first: bool = False


@dataclass(frozen=True)
class Walls:
    """How long each side took for a batch, from its command to its last result."""

    format: Format
    agent: str
    cases: int
    concurrency: int
    first: str
    load: float  # of the machine when the batch began, one-minute average
    official_s: float
    ours_s: float


def play_both(
    batch: Batch, runtime: Runtime, *, root: Path, concurrency: int = 1
) -> tuple[list[Pair], Walls]:
    """Play a batch there and here; a trial that either side has no result of is in no pair.

    Args:
        batch: Which cases, with which agent.
        runtime: Of our side.
        root: A new folder.
        concurrency: Trials at once, there and here.
    """
    tasks, keys = official.lay(batch.format, root, batch.cases)
    load, there, here = os.getloadavg()[0], list[Official](), list[Ours]()

    def play_there() -> None:
        work = root / f"official-{batch.format}-{batch.agent}"
        there.extend(
            official.play(
                batch.format, batch.agent, tasks=tasks, keys=keys, work=work, concurrency=concurrency
            )
        )

    def play_here() -> None:
        here.extend(
            play_ours(
                batch.format,
                batch.agent,
                runtime,
                tasks=tasks,
                keys=keys,
                work=root / "ours",
                concurrency=concurrency,
            )
        )

    sides = {"official": play_there, "ours": play_here}
    order = ["ours", "official"] if batch.ours_first else ["official", "ours"]
    took = {side: _timed(sides[side]) for side in order}
    walls = Walls(
        batch.format,
        batch.agent,
        len(batch.cases),
        concurrency,
        order[0],
        round(load, 2),
        took["official"],
        took["ours"],
    )
    return paired(there, here), walls


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return round(time.monotonic() - began, 1)


def defects() -> list[Case]:
    """Return the cases that list an upstream defect."""
    return [case for format in FORMATS for case in CASES[format] if case.defect]
