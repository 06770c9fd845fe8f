"""The loop: one environment, one agent, one trajectory. Read this first."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from terminal_gym.agents.agent import Agent
from terminal_gym.errors import ContextFull, ModelRefused, SandboxError, TaskError
from terminal_gym.sandbox.base import Image
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Action, Frame, Observation, Outcome, Step, Trajectory
from terminal_gym.validation.verdict import Verdict

Info = dict[str, object]


class Playable(Protocol):
    """What the loop asks of an environment; `terminal_gym.env.TerminalEnv` is one."""

    @property
    def task(self) -> Task: ...

    @property
    def runtime_name(self) -> str: ...

    @property
    def image(self) -> Image | None:
        """The image of the running sandbox, None before the first reset."""
        ...

    @property
    def seen(self) -> Observation:
        """The last observation, as a record."""
        ...

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the episode that ended, None where there is none."""
        ...

    @property
    def frames(self) -> tuple[Frame, ...]: ...

    @property
    def size(self) -> tuple[int, int]:
        """(rows, cols)"""
        ...

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[object, Info]: ...

    def step(self, action: Action) -> tuple[object, float, bool, bool, Info]: ...


def run_episode(
    env: Playable,
    agent: Agent,
    *,
    task: Task | None = None,
    attempt: int = 0,
    seed: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Trajectory:
    """Play one episode to its end; returns its record, also where the machine or the task broke it.

    Args:
        env: Reset here, closed by the caller.
        agent: Begun here.
        task: Which task of an environment over many; None: the environment's own.
        attempt: The k-th try at this task, from 0; only recorded.
        seed: Handed to `reset`.
        clock: Monotonic seconds.

    Raises:
        UsageError: The agent cannot play this task, or does not exist for it.
        ProviderDown: The agent's model does not answer; the caller decides whether to wait or to give up. A full
            context or a refusal ends the episode instead, and what was done until then is judged.
    """
    task = task or env.task
    agent.begin(task.at(0))
    began, steps, limit = clock(), list[Step](), ""
    began_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    seconds = {"reset": 0.0, "agent": 0.0, "verify": 0.0}
    try:
        env.reset(seed=seed, options=None if task is env.task else {"task": str(task.ref)})
        seconds["reset"] = clock() - began
        info = _play(env, agent, steps, clock)
        limit = str(info.get("limit", ""))
        outcome = env.verdict.outcome() if env.verdict else _broken(str(info.get("reason") or "no verdict"))
    except (SandboxError, TaskError) as error:
        outcome = _broken(f"{type(error).__name__}: {error}")
    seconds["verify"] = env.verdict.seconds if env.verdict else 0.0
    seconds["total"] = clock() - began
    seconds["agent"] = seconds["total"] - seconds["reset"] - seconds["verify"]
    rows, cols = env.size
    return Trajectory(
        task=str(task.ref),
        task_hash=task.content_hash(),
        agent=agent.name,
        runtime=env.runtime_name,
        image_digest=env.image.digest if env.image else "",
        attempt=attempt,
        seed=seed,
        steps=tuple(steps),
        outcome=outcome,
        seconds=seconds,
        frames=env.frames,
        rows=rows,
        cols=cols,
        instruction=task.instruction,
        limit=limit,
        began_at=began_at,
    )


def _play(env: Playable, agent: Agent, steps: list[Step], clock: Callable[[], float]) -> Info:
    """Step until the episode ends; returns the last info. Steps are kept also where one of them raises."""
    zero, ended, at = clock(), False, 0
    info: Info = {}
    while not ended:
        gave_up = ""
        try:
            action = agent.act(env.seen)
        except (ContextFull, ModelRefused) as error:
            gave_up = f"{type(error).__name__}: {error}"
            action = Action(submit=True, text=gave_up if error.turns else "", turns=error.turns)
        began = clock() - zero
        _, _, terminated, truncated, info = env.step(action)
        steps.append(Step(action, env.seen, began, clock() - zero))
        ended = terminated or truncated
        if not ended and info.get("task_step", at) != at:
            at = int(str(info["task_step"]))
            agent.begin(env.task.at(at))  # the next step of the task: another instruction, the same machine
        if gave_up:
            info = info | {"limit": gave_up}
    return info


def _broken(reason: str) -> Outcome:
    return Outcome("broken", None, reason)
