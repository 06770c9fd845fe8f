"""What can one head drive? An engine over a thousand places that stand in for nodes.

A place here does what a node's end in the head does, and nothing else: it takes the JSON of an episode and makes a
trajectory of it. So what is measured is threads, the choice of a place, JSON, and the run folder; not Ray's own work.
"""

from __future__ import annotations

import resource
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.speed.run_store import made_up
from benchmarks.speed.subjects import TASK
from terminal_gym.rollout.engine import Bounds, Engine
from terminal_gym.rollout.plan import Attempt
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.trajectory.codec import from_json, to_json
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.store import RunWriter


class Node:
    """A place whose episodes are there at once, or when `over` is set."""

    runtime = "none"

    def __init__(self, name: str, told: bytes, over: threading.Event):
        self.name, self._told, self._over = name, told, over

    def play(self, attempt: Attempt, *, seed: int | None, began: Callable[[], None]) -> Trajectory:
        """Return the episode."""
        del seed
        began()
        self._over.wait()
        return replace(from_json(Trajectory, self._told), task=attempt.task, attempt=attempt.k)

    def prepare(self, attempt: Attempt) -> None:
        """Nothing to do."""

    def drop(self, attempt: Attempt) -> None:
        """Nothing to do."""

    def check(self) -> None:
        """It is there."""

    def close(self) -> None:
        """Nothing to do."""

    def holds(self) -> bool:
        """It holds nothing."""
        return False


def measure(*, nodes: int, episodes: int, at_once: int) -> dict[str, Any]:
    """Return what a head takes for each of `episodes`, of which `at_once` are under way until all of those have begun.

    The first `at_once` wait until as many are under way; then each ends as soon as the head comes to it.
    """
    task = find_task(TASK)
    told, over = to_json(made_up(0, ids=False)), threading.Event()
    attempts = [Attempt(str(task.ref), number) for number in range(episodes)]
    with tempfile.TemporaryDirectory() as folder, RunWriter(Path(folder) / "run", {}) as writer:
        engine = Engine(
            tasks={str(task.ref): task},
            places=[Node(f"node-{number}", told, over) for number in range(nodes)],
            writer=writer,
            agent="none",
            bounds=Bounds(episodes=at_once, ahead=0),
        )
        before, began = _resident_kib(), time.perf_counter()
        running = threading.Thread(target=engine.run, args=[attempts])
        running.start()
        while len(engine._running) < at_once:
            time.sleep(0.01)
        hired_s, waiting = time.perf_counter() - began, _resident_kib()
        cpu, began = time.process_time(), time.perf_counter()
        over.set()
        running.join()
        took, spent = time.perf_counter() - began, time.process_time() - cpu
        kept = len(writer.standing)
    return {
        "nodes": nodes,
        "at_once": at_once,
        "episodes": kept,
        "bytes_an_episode": len(told),
        "hired_s": hired_s,
        "kib_an_episode_under_way": (waiting - before) / at_once,
        "episodes_a_second": episodes / took,
        "cpu_ms_an_episode": 1000 * spent / episodes,
        "most_resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _resident_kib() -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
