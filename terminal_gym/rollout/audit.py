"""The replay audit: what was typed in a stored trajectory is typed again in a fresh sandbox, and judged again.

The share of passed trajectories that pass again says how much of a data set can be reproduced by its actions alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from terminal_gym.agents.replay import Replay
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import SandboxError, TaskError
from terminal_gym.rollout.episode import run_episode
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Status, Trajectory


@dataclass(frozen=True)
class Replayed:
    """One trajectory, then and now."""

    task: str
    attempt: int
    before: Status
    after: Status
    reason: str  # of what came of it now

    @property
    def agrees(self) -> bool | None:
        """Whether both verdicts are the same; None where there is none now."""
        return None if self.after == "broken" else self.before == self.after


def replay(
    attempts: Iterable[Trajectory],
    tasks: Mapping[str, Task],
    runtime: Runtime,
    *,
    concurrency: int = 2,
    progress: Callable[[Replayed], None] = lambda one: None,
) -> Iterator[Replayed]:
    """Yield each trajectory's verdict again; broken ones are left out, for there is nothing to compare.

    Args:
        attempts: Read as they are needed.
        tasks: Task ref → task, as it was then.
        runtime: Holds the images.
        concurrency: How many at once.
        progress: Told of each as it ends.
    """

    def again(played: Trajectory) -> Replayed:
        one = _again(played, tasks[played.task], runtime)
        progress(one)
        return one

    judged = (played for played in attempts if played.outcome.status != "broken")
    with ThreadPoolExecutor(concurrency, thread_name_prefix="tgym-replay") as pool:
        yield from pool.map(again, judged)


def _again(played: Trajectory, task: Task, runtime: Runtime) -> Replayed:
    try:
        with TerminalEnv(task, runtime=runtime, rows=played.rows, cols=played.cols) as env:
            outcome = run_episode(env, Replay(played), attempt=played.attempt, seed=played.seed).outcome
            after, reason = outcome.status, outcome.reason
    except (SandboxError, TaskError) as error:
        after, reason = "broken", f"{type(error).__name__}: {error}"
    return Replayed(played.task, played.attempt, played.outcome.status, after, reason)


def summary(replayed: Iterable[Replayed]) -> dict[str, object]:
    """Return the counts, and the share of passed trajectories that pass again (None where none was judged)."""
    counts = Counter((one.before, one.after) for one in replayed)
    again, judged = counts["passed", "passed"], counts["passed", "passed"] + counts["passed", "failed"]
    return {
        "replayed": sum(counts.values()),
        "passed_again": again,
        "passed_then_failed": counts["passed", "failed"],
        "failed_then_passed": counts["failed", "passed"],
        "failed_again": counts["failed", "failed"],
        "broken": sum(count for (_, after), count in counts.items() if after == "broken"),
        "still_pass": again / judged if judged else None,
    }
