"""What does the rollout engine add to an episode, and does it hold 64 of them at once?

The floor is the same episodes in a plain loop: sandbox, steps, verdict, removal; no engine, no threads, no run folder.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.speed.clock import Measured, interleave, milliseconds
from terminal_gym.agents.agent import open_agent
from terminal_gym.env import TerminalEnv
from terminal_gym.rollout.engine import Bounds
from terminal_gym.rollout.episode import run_episode
from terminal_gym.rollout.job import Job, open_rollout
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.trajectory.store import Run

_EPISODES = 3  # in one turn


def overhead(runtime: Runtime, task: str, *, repeats: int) -> dict[str, Measured]:
    """Return milliseconds an episode, one after the other, without and with the engine."""
    played = find_task(task)
    runtime.build(played.image)

    def bare() -> None:
        for _ in range(_EPISODES):
            with TerminalEnv(played, runtime=runtime, record=True, rows=40, cols=160) as env:
                outcome = run_episode(env, open_agent("oracle")).outcome
            if outcome.status != "passed":
                raise RuntimeError(f"the oracle {outcome.status}: {outcome.reason}")

    def engine() -> None:
        rows = _rolled(runtime, task, attempts=_EPISODES, bounds=Bounds(episodes=1, ahead=0))
        if set(rows) != {"passed"}:
            raise RuntimeError(f"the oracle's attempts ended as {rows}")

    contenders = {
        "floor": lambda: milliseconds(bare) / _EPISODES,
        "with the engine": lambda: milliseconds(engine) / _EPISODES,
    }
    return interleave(contenders, repeats=repeats, warm_up=1)


def many(runtime: Runtime, task: str, *, episodes: int) -> dict[str, Measured]:
    """Return what came of so many episodes at once: seconds, and how they ended."""
    began = time.perf_counter()
    ended = _rolled(runtime, task, attempts=episodes, bounds=Bounds(episodes=episodes, starts=4))
    took = time.perf_counter() - began
    counts = {status: float(ended[status]) for status in ("passed", "failed", "broken")}
    return {
        "all of them": Measured("all of them", "s", (took,)),
        **{status: Measured(status, "episodes", (count,)) for status, count in counts.items()},
    }


def _rolled(runtime: Runtime, task: str, *, attempts: int, bounds: Bounds) -> Counter[str]:
    with tempfile.TemporaryDirectory() as folder:
        job = Job.of([task], agent="oracle", attempts=attempts, seed=0)
        with open_rollout(job, Path(folder) / "run", runtime, bounds=bounds) as rollout:
            rollout.run()
        run = Run(Path(folder) / "run")
        return Counter(row.status for row in run.rows)
