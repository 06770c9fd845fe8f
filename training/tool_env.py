"""A terminal as TRL's `environment_factory` wants it: `reset`, one tool, `get_reward`; sandboxes from a warm pool.

    tools = open_terminals(tasks, runtime)
    GRPOTrainer(environment_factory=tools, …)   # a dataset with a column `task`
    close_terminals()

The easy way, and the slower one: the trainer resets and steps its environments one after the other. Each public method
of such a class is a tool that a policy may call, so that there are no others. A model must call tools natively, which
Qwen2.5-Coder does not (`rollout_bridge.py` reads fenced blocks).

Source: trl 1.16, `GRPOTrainer(environment_factory=…)`.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Mapping
from typing import ClassVar

from terminal_gym.agents.terminus import clipped
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import BadSetting, TerminalGymError
from terminal_gym.machine import WarmPool
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Action

_LOST = "The environment is lost: nothing that you do counts any more."
_OUTPUT_BYTES = 10_000


class TerminalTools:
    """One live terminal at a time."""

    _tasks: ClassVar[Mapping[str, Task]] = {}
    _runtime: ClassVar[Runtime | None] = None
    _pool: ClassVar[WarmPool | None] = None
    _ahead: ClassVar[Task | None] = None  # whose machine waits in the pool
    _made: ClassVar[list[TerminalTools]] = []
    _mutex: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._env: TerminalEnv | None = None
        self._lost = False
        with self._mutex:
            self._made.append(self)

    @classmethod
    def _open(cls, tasks: Mapping[str, Task], runtime: Runtime, *, starts: int = 4) -> None:
        if cls._runtime is not None:
            raise BadSetting("The terminals are open. Close them first.")
        cls._tasks, cls._runtime = dict(tasks), runtime
        cls._pool = WarmPool(runtime, starts=starts, record=False)
        atexit.register(cls._close_all)

    @classmethod
    def _close_all(cls) -> None:
        with cls._mutex:
            made, pool = list(cls._made), cls._pool
            cls._made.clear()
            cls._pool = cls._runtime = cls._ahead = None
        for one in made:
            if one._env is not None:
                one._env.close()
        if pool is not None:
            pool.close()
        atexit.unregister(cls._close_all)

    def reset(self, task: str, **row: object) -> str:
        """Begin an episode of `task`, a column of the data set; returns its instruction.

        A machine that cannot start it costs nothing: the episode has no reward.
        """
        if self._env is not None:
            self._env.close()
        self._env, self._lost = None, False
        if self._runtime is None or self._pool is None or task not in self._tasks:
            self._lost = True  # an exception here would end training
            return _LOST
        try:
            self._env = TerminalEnv(self._tasks[task], runtime=self._runtime, machines=self._pool)
            self._env.reset()
        except TerminalGymError:
            self._lost = True
            return _LOST
        self._prepare(self._pool, self._tasks[task])
        return self._tasks[task].instruction

    @classmethod
    def _prepare(cls, pool: WarmPool, task: Task) -> None:
        """Begin to start a machine for the next reset, likely of this group; one of another task waits no longer."""
        with cls._mutex:
            before, cls._ahead = cls._ahead, task
        if before is not None and before is not task:
            pool.drop(before)
        pool.prepare(task)

    def run(self, command: str) -> str:
        """Run one command in the shell and return its output and exit code.

        Args:
            command: The command; it may have several lines.
        """
        env = self._env
        if self._lost or env is None or not env.is_open:
            return _LOST
        _, _, terminated, truncated, _ = env.step(Action(command=command, text=command))
        if terminated or truncated:
            return "The episode is over."
        code = "unknown: it still runs" if env.seen.exit_code is None else str(env.seen.exit_code)
        return f"{clipped(env.seen.output, _OUTPUT_BYTES)}\n[exit code {code}]"

    def get_reward(self) -> float | None:
        """Return 1.0 or 0.0 by the verdict, None where there is none."""
        env = self._env
        if self._lost or env is None:
            return None
        if env.is_open:
            env.step(Action(submit=True))
        verdict = env.verdict
        return None if verdict is None or verdict.broken else float(verdict.passed)


def open_terminals(tasks: Mapping[str, Task], runtime: Runtime, *, starts: int = 4) -> type[TerminalTools]:
    """Return the class to be handed to the trainer, its sandboxes on `runtime`; close it with `close_terminals`.

    Raises:
        BadSetting: It is open already.
    """
    TerminalTools._open(tasks, runtime, starts=starts)
    return TerminalTools


def close_terminals() -> None:
    """Remove every sandbox; the runtime is its owner's to close. Safe to call again."""
    TerminalTools._close_all()
