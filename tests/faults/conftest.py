"""What the fault tests share: a rollout of a few episodes of one tiny task, and what must hold whatever went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from terminal_gym.agents.agent import open_agent
from terminal_gym.rollout.engine import Bounds, Engine
from terminal_gym.rollout.place import Here
from terminal_gym.rollout.plan import Retries, remaining
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.store import Run, RunWriter

HELLO = Path(__file__).parents[1] / "kit/tasks/hello"


@dataclass
class Played:
    """What a rollout left on record."""

    run: Run

    @property
    def statuses(self) -> Counter[str]:
        return Counter(row.status for row in self.run.standing.values())

    def reasons(self) -> list[str]:
        return [row.reason for row in self.run.standing.values() if row.status == "broken"]

    def must_be_honest(self, *, honest: str) -> None:
        """No fault is paid, none is punished: a verdict is the one that the work deserves, or there is none."""
        for row in self.run.standing.values():
            assert row.status in (honest, "broken"), f"{row.task} {row.attempt}: {row.status} ({row.reason})"
            assert (row.reward is None) == (row.status == "broken")
        assert self.statuses["broken"] == len([reason for reason in self.reasons() if reason])


def play(
    runtime: Runtime,
    folder: Path,
    *,
    agent: str = "oracle",
    attempts: int = 3,
    retries: int = 0,
    episodes: int = 2,
    grace_s: float = 60.0,
    tasks: Sequence[Path] = (HELLO,),
) -> Played:
    """Play the tasks; returns what is on record."""
    found = {str(task.ref): brief(task) for task in map(find_task, tasks)}
    place = Here(runtime, tasks=found, make_agent=lambda seed: open_agent(agent))
    with RunWriter(folder, {}) as writer, closing(place):
        engine = Engine(
            tasks=found,
            places=[place],
            writer=writer,
            agent=agent,
            bounds=Bounds(episodes=episodes, ahead=0, grace_s=grace_s),
            retries=Retries(machine=retries, moves=0),
        )
        engine.run(remaining(found, attempts=attempts, done=set(writer.standing)))
    played = Played(Run(folder))
    assert len(played.run) == attempts * len(found), "an attempt is not on record"
    return played


def brief(task: Task) -> Task:
    return replace(task, limits=replace(task.limits, agent_s=30.0, verifier_s=20.0, steps=None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
