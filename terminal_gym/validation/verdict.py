"""A verdict: passed, failed or broken, with its checks. Only a verdict becomes a reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from terminal_gym.trajectory.record import Check, Graded, Grading, Outcome, Status, StepOutcome


@dataclass(frozen=True)
class Verdict:
    """What the judge found.

    An agent's fault (a test that fails, a killed or silent verifier, a forged report) is `failed`. A fault of
    the machine or of the task is `broken` and never becomes a reward.
    """

    status: Status
    mode: str  # artifacts, restart or live; shared or separate for a format's own script
    reason: str = ""
    checks: tuple[Check, ...] = ()
    integrity: tuple[str, ...] = ()
    seconds: float = 0.0  # stop signal to verdict
    trusted_hash: str = ""  # tree hash of the trusted runtime that judged
    log_tail: str = ""  # the end of the validator's output; untrusted bytes, decoded with replacement
    grading: Grading = "strict"
    error: str = ""  # see Outcome
    rewards: Mapping[str, float] = field(default_factory=dict)
    beside: Graded | None = None
    notes: tuple[str, ...] = ()
    steps: tuple[StepOutcome, ...] = ()
    value: float | None = None  # the reward of a verdict by a reward file; None: 1.0 or 0.0

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    @property
    def broken(self) -> bool:
        return self.status == "broken"

    def reward(self) -> float | None:
        """Return 1.0, 0.0, or None where there is no verdict to learn from."""
        if self.broken:
            return None
        return float(self.passed) if self.value is None else self.value

    def graded(self) -> Graded:
        """Return it as one of two verdicts on an episode."""
        return Graded(
            self.status,
            self.reward(),
            self.reason,
            self.error,
            self.checks,
            self.rewards,
            self.integrity,
            self.mode,
            self.seconds,
        )

    def outcome(self) -> Outcome:
        """Return the part of the verdict that a trajectory keeps."""
        return Outcome(
            self.status,
            self.reward(),
            self.reason,
            self.checks,
            self.integrity,
            self.grading,
            self.error,
            self.rewards,
            self.beside,
            self.notes,
            self.steps,
        )
