"""A verdict: passed, failed or broken, with its checks. Only a verdict becomes a reward."""

from __future__ import annotations

from dataclasses import dataclass

from terminal_gym.tasks.task import Mode
from terminal_gym.trajectory.record import Check, Outcome, Status


@dataclass(frozen=True)
class Verdict:
    """What the judge found.

    An agent's fault (a test that fails, a killed or silent verifier, a forged report) is `failed`. A fault of
    the machine or of the task is `broken` and never becomes a reward.
    """

    status: Status
    mode: Mode
    reason: str = ""
    checks: tuple[Check, ...] = ()
    integrity: tuple[str, ...] = ()
    seconds: float = 0.0  # stop signal to verdict
    trusted_hash: str = ""  # tree hash of the trusted runtime that judged
    log_tail: str = ""  # the end of the validator's output; untrusted bytes, decoded with replacement

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    @property
    def broken(self) -> bool:
        return self.status == "broken"

    def reward(self) -> float | None:
        """Return 1.0, 0.0, or None where there is no verdict to learn from."""
        return None if self.broken else float(self.passed)

    def outcome(self) -> Outcome:
        """Return the part of the verdict that a trajectory keeps."""
        return Outcome(self.status, self.reward(), self.reason, self.checks, self.integrity)
