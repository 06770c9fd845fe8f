"""What is left to do, and what follows from a failure. Pure functions: the same inputs give the same answer."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Literal

from terminal_gym import errors
from terminal_gym.tasks.harness import ScriptSpec
from terminal_gym.tasks.task import Task

Blame = Literal["task", "machine", "provider", "disk", "caller"]
BASES: tuple[tuple[type[Exception], Blame], ...] = (
    (errors.TaskError, "task"),
    (errors.SandboxError, "machine"),
    (errors.ModelError, "provider"),
    (errors.StoreError, "disk"),
    (errors.UsageError, "caller"),
)
OVERRIDES = ("agent_s", "verifier_s", "multiplier")
Next = Literal["retry", "record", "quarantine", "stop"]


@dataclass(frozen=True)
class Attempt:
    """The k-th try at one task, counted from 0."""

    task: str  # task ref
    k: int


@dataclass(frozen=True)
class Retries:
    """How often an attempt is tried again, by whose fault it broke."""

    machine: int = 2  # on a fresh sandbox
    provider: int = 2  # after a pause
    moves: int = 5  # away from a machine that no longer answers, not counted among the others
    first_pause_s: float = 2.0  # doubled each time, for the provider

    def pause_s(self, blame: Blame, tries: int) -> float:
        """Return how long to wait before try number `tries`, from 1."""
        return float(self.first_pause_s * 2 ** (tries - 1)) if blame == "provider" else 0.0


def remaining(tasks: Mapping[str, Task], *, attempts: int, done: Set[tuple[str, int]]) -> tuple[Attempt, ...]:
    """Return the attempts still to run: those of one image together, else in the order of `tasks`.

    Args:
        tasks: Task ref → task.
        attempts: How many each task gets.
        done: (task ref, k) of those on record.
    """
    images = {task.image.name: number for number, task in reversed(list(enumerate(tasks.values())))}
    by_image = sorted(tasks, key=lambda ref: images[tasks[ref].image.name])
    wanted = (Attempt(ref, k) for ref in by_image for k in range(attempts))
    return tuple(attempt for attempt in wanted if (attempt.task, attempt.k) not in done)


def overridden(task: Task, override: Mapping[str, float]) -> Task:
    """Return the task with other time limits than its own.

    Args:
        task: As its author wrote it.
        override: `agent_s` and `verifier_s` replace its limits, `multiplier` then stretches both. Empty: its own hold.

    Raises:
        BadSetting: Another name, or a number that is not above 0.
    """
    for name, value in override.items():
        if name not in OVERRIDES:
            raise errors.BadSetting(f"{name!r} cannot be overridden; {', '.join(OVERRIDES)} can.")
        if not (value > 0 and math.isfinite(value)):
            raise errors.BadSetting(f"{name} is {value!r}; it must be a number above 0.")
    if not override:
        return task
    agent_s, verifier_s = override.get("agent_s"), override.get("verifier_s")
    factor = override.get("multiplier", 1.0)

    def agent(own: float) -> float:
        return (own if agent_s is None else agent_s) * factor

    def script(own: ScriptSpec) -> ScriptSpec:
        return replace(own, timeout_s=(own.timeout_s if verifier_s is None else verifier_s) * factor)

    limits = task.limits
    verifier = (limits.verifier_s if verifier_s is None else verifier_s) * factor
    steps = tuple(
        replace(
            step,
            script=script(step.script),
            agent_s=None if step.agent_s is None else agent(step.agent_s),
        )
        for step in task.steps
    )
    return replace(
        task,
        limits=replace(limits, agent_s=agent(limits.agent_s), verifier_s=verifier),
        script=None if task.script is None else script(task.script),
        steps=steps,
    )


def blame_of(reason: str) -> Blame:
    """Return whose fault a broken episode was, from the error's name that begins its reason; else the machine's."""
    kind = getattr(errors, reason.partition(":")[0].strip(), None)
    for base, blame in BASES:
        if isinstance(kind, type) and issubclass(kind, base):
            return blame
    return "machine"


def next_after(blame: Blame, *, tries: int, retries: Retries) -> Next:
    """Return what to do with an attempt that broke for the `tries`-th time, from 1."""
    if blame in ("disk", "caller"):
        return "stop"
    if blame == "task":
        return "quarantine"
    most = retries.machine if blame == "machine" else retries.provider
    return "retry" if tries <= most else "record"


def seed_of(attempt: Attempt, *, seed: int) -> int:
    """Return the attempt's own seed, (0 … 2³¹−1), the same in each run with that seed."""
    text = f"{seed} {attempt.task} {attempt.k}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") >> 1
