"""Run folders of made-up evaluations: real files, written as an evaluation writes them, in no time."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from kit.trajectories import trajectory

from terminal_gym.rollout.job import Job
from terminal_gym.trajectory.record import Graded, Outcome, Trajectory
from terminal_gym.trajectory.store import RunWriter

LATE = "the limit of 900 s"
Change = Callable[[Trajectory], Trajectory | None]


def evaluation(
    folder: Path,
    rates: Mapping[str, float],
    *,
    attempts: int = 5,
    version: str = "2.0",
    seed: int = 0,
    change: Change = lambda played: played,
    **asked: object,
) -> Path:
    """Write a run: each task is passed as often as its rate says, to the nearest attempt; parity and strict agree.

    Args:
        folder: A new one.
        rates: Task name → share of attempts that pass.
        attempts: At each task.
        version: Of Terminal-Bench.
        seed: Which attempts pass, and how long they take.
        change: What becomes of each trajectory before it is stored; None: it is not stored.
        asked: Other fields of the job.
    """
    namespace = "TerminalBench1" if version == "1.0" else "TerminalBench2"
    hashes = {f"/tasks/{name}": hashlib.sha256(name.encode()).hexdigest() for name in rates}
    settings = {"agent": "terminus", "model": "openai/tiny", "seed": seed} | asked
    job = Job(hashes, attempts=attempts, namespace=namespace, **settings)  # type: ignore[arg-type]
    job = replace(job, labels={"benchmark": f"terminal-bench@{version}"})
    with RunWriter(folder, asdict(job), sync=lambda fd: None) as writer:  # made up: nothing to lose
        for name, rate in rates.items():
            chance = random.Random(f"{seed} {name}")
            good = set(chance.sample(range(attempts), round(rate * attempts)))
            for k in range(attempts):
                made = trajectory(f"{namespace}/{name}", k, turns=2, ids=False)
                told = change(_judged(made, passed=k in good, took_s=chance.uniform(20, 400)))
                if told is not None:
                    writer.append(told)
    return folder


def _judged(made: Trajectory, *, passed: bool, took_s: float) -> Trajectory:
    graded = Graded("passed" if passed else "failed", float(passed), "" if passed else "checks")
    seconds = {"reset": 0.4, "agent": took_s, "verify": 2.0, "total": took_s + 2.4}
    return replace(made, outcome=beside(graded, graded), seconds=seconds)


def beside(parity: Graded, strict: Graded) -> Outcome:
    """Return the outcome of an episode whose reward is the parity verdict's."""
    return Outcome(
        parity.status,
        parity.reward,
        parity.reason,
        grading="parity",
        error=parity.error,
        beside=strict,
    )
