"""The agent that does nothing: it submits at once. A validator that passes it judges nothing."""

from __future__ import annotations

from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Action, Observation


class Nop:
    """Submits at the first chance."""

    name = "nop"

    def begin(self, task: Task) -> None:
        """Nothing to prepare."""

    def act(self, seen: Observation) -> Action:
        return Action(submit=True)
