"""Plays a recorded trajectory's actions again, in their order, then submits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Action, Observation, Trajectory


class Replay:
    """Types what was typed in `trajectory`, and waits as long for it.

    Args:
        trajectory: What to play again; its model is not asked.
        patience: How many times as long each wait may be as it was bounded then: machines differ.
    """

    name = "replay"

    def __init__(self, trajectory: Trajectory, *, patience: float = 3.0):
        self._trajectory, self._patience = trajectory, patience
        self._left: Iterator[Action] = iter(())

    def begin(self, task: Task) -> None:
        self._left = (self._again(step.action) for step in self._trajectory.steps)

    def act(self, seen: Observation) -> Action:
        return next(self._left, Action(submit=True))

    def _again(self, action: Action) -> Action:
        longer = None if action.wait_s is None else action.wait_s * self._patience
        # An entry without keys is a pause, not a bound: it stays as long as it was.
        pairs = zip(action.waits_s, action.keys, strict=False)
        waits = tuple(wait_s * self._patience if keys else wait_s for wait_s, keys in pairs)
        return replace(action, wait_s=longer, waits_s=waits, turns=())
