"""Validator: judges what an agent left behind. One door picks it by a task's ValidatorSpec."""

from __future__ import annotations

from typing import Protocol

from terminal_gym.sandbox.base import Runtime, Sandbox
from terminal_gym.tasks.task import Task, ValidatorSpec
from terminal_gym.validation.pytest_runner import PytestValidator
from terminal_gym.validation.verdict import Verdict


class Validator(Protocol):
    """Gives verdicts."""

    def judge(self, sandbox: Sandbox, task: Task, *, runtime: Runtime) -> Verdict:
        """Stop `sandbox` and return the verdict on what it holds.

        A fault of the machine is a verdict `broken`, never an exception and never a reward.

        Raises:
            ValidatorBroken: The validator cannot judge even an untouched sandbox.
        """
        ...


def open_validator(spec: ValidatorSpec) -> Validator:
    """Return the validator that `spec` asks for."""
    del spec  # there is one kind so far; script runners come with the other task formats
    return PytestValidator()
