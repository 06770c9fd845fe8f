"""Validator: judges what an agent left behind. One door picks it for a task."""

from __future__ import annotations

from typing import Protocol

from terminal_gym.errors import BadSetting
from terminal_gym.sandbox.base import Runtime, Sandbox
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Grading
from terminal_gym.validation.foreign import ForeignValidator
from terminal_gym.validation.fresh import Coming
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


def open_validator(
    task: Task,
    *,
    grading: Grading = "strict",
    agent_failed: bool = False,
    both: bool | None = None,
    in_steps: bool = False,
    coming: Coming | None = None,
) -> Validator:
    """Return the validator for a task.

    Args:
        grading: Whose verdict is the reward, where the task's format has a judge of its own.
        agent_failed: A limit ended the agent's work; Terminal-Bench 1.0 then reads tests that ran out of time.
        in_steps: The machine is used again after this verdict, for the next step of the task.
        coming: A judge made before, by `ahead`; closed by the caller, used or not.
        both: Take the other verdict too. None: where the task is a foreign one, whose author knew of no strict judge.

    Raises:
        BadSetting: Parity is asked for, and the task has no judge of its own.
    """
    if task.script is None:
        if grading == "parity":
            raise BadSetting(f"{task.ref} has no test script of its own, so no parity verdict. Use strict.")
        return PytestValidator(coming=coming)
    if both is None:
        both = task.strict.calibrated is not None
    if grading == "strict" and not (both or in_steps) and task.strict.judge == "pytest":
        return PytestValidator(coming=coming)
    return ForeignValidator(grading, both=both, agent_failed=agent_failed, wipe=in_steps, stops=not in_steps)
