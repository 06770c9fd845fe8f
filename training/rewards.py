"""Verdicts → rewards; which groups of attempts teach something; and which tasks are worth trying. Pure functions.

Source: group advantages, Shao et al. 2024 (DeepSeekMath); groups without variance, Yu et al. 2025 (DAPO).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.store import Row


@dataclass(frozen=True)
class Reward:
    """What an episode pays."""

    kind: Literal["binary", "checks"] = "binary"
    """"binary": 1 where passed, else 0; "checks": the share of the validator's checks that passed."""
    turn_penalty: float = 0.0
    """Taken off for an episode that used all its turns; less in proportion for shorter ones."""
    malformed_penalty: float = 0.0
    """Taken off for an episode all of whose replies could not be read; in proportion for fewer."""

    def __post_init__(self) -> None:
        if self.turn_penalty < 0 or self.malformed_penalty < 0:
            raise BadSetting("Penalties are 0 or more; they are taken off.")

    def of(self, played: Trajectory, *, most_turns: int) -> float | None:
        """Return the reward, None where there is no verdict: that teaches nothing.

        Args:
            played: With its outcome.
            most_turns: That an episode may use, > 0.
        """
        outcome = played.outcome
        if outcome.reward is None:
            return None
        paid = outcome.reward
        if self.kind == "checks" and outcome.checks:
            counted = [check for check in outcome.checks if check.outcome != "skipped"]
            paid = sum(check.outcome == "passed" for check in counted) / max(1, len(counted))
        turns = len(played.turns)
        malformed = turns - sum(step.action.understood is not None for step in played.steps)
        paid -= self.turn_penalty * min(1.0, turns / most_turns)
        return paid - self.malformed_penalty * malformed / max(1, turns)


def advantages(rewards: npt.ArrayLike, *, scale: bool = True) -> npt.NDArray[np.float64]:
    """Return each attempt's advantage in its group, (groups, attempts); 0 where there is no verdict.

    Args:
        rewards: (groups, attempts), nan where there is no verdict.
        scale: Divide by the group's standard deviation.
    """
    given = np.asarray(rewards, dtype=np.float64)
    known = ~np.isnan(given)
    count = np.maximum(known.sum(1, keepdims=True), 1)
    filled = np.where(known, given, 0.0)
    centred = np.where(known, given - filled.sum(1, keepdims=True) / count, 0.0)
    if scale:
        deviation = np.sqrt((centred**2).sum(1, keepdims=True) / np.maximum(count - 1, 1))
        centred = centred / (deviation + 1e-4)
    return np.asarray(centred)


def teaches(rewards: Iterable[float | None]) -> bool:
    """Say whether a group has two different rewards: without, every advantage is 0."""
    return len({reward for reward in rewards if reward is not None}) > 1


@dataclass
class Curriculum:
    """How often each task is solved, as far as is known; and which to try next: neither the sure nor the hopeless.

    A task is drawn with a weight of p·(1 − p), the variance of its verdict, p being (1 + passed) / (2 + judged).
    """

    tasks: Sequence[str]
    seed: int = 0
    _passed: dict[str, float] = field(default_factory=dict)
    _judged: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise BadSetting("There is no task to learn from.")
        self._chance = random.Random(self.seed)

    def learn(self, rows: Iterable[Row]) -> None:
        """Take the verdicts of a run into account."""
        for row in rows:
            self.note(row.task, row.reward)

    def note(self, task: str, reward: float | None) -> None:
        """Take one verdict into account; a broken episode says nothing."""
        if reward is not None:
            self._passed[task] = self._passed.get(task, 0.0) + min(1.0, max(0.0, reward))
            self._judged[task] = self._judged.get(task, 0) + 1

    def part_with(self, number: int) -> None:
        """Draw otherwise from here on than the other processes of this training; `number` is this one's."""
        self._chance = random.Random(f"{self.seed} {number}")

    def weight(self, task: str) -> float:
        """Return the variance of the task's verdict, (0, 0.25]."""
        rate = (1 + self._passed.get(task, 0.0)) / (2 + self._judged.get(task, 0))
        return rate * (1 - rate)

    def within(self, low: float, high: float) -> list[str]:
        """Return the tasks whose solve rate is known and within these bounds, and those that are not known."""
        return [task for task in self.tasks if not self._judged.get(task) or low <= self._rate(task) <= high]

    def _rate(self, task: str) -> float:
        return self._passed.get(task, 0.0) / self._judged[task]

    def draw(self, count: int, *, but: Collection[str] = ()) -> list[str]:
        """Return `count` tasks; `but` names tasks that are not drawn, unless there are no others."""
        choices = [task for task in self.tasks if task not in but] or list(self.tasks)
        return self._chance.choices(choices, [self.weight(task) for task in choices], k=count)
