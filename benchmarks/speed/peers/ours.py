"""terminal-gym itself: one TerminalEnv for each environment, over one runtime that they share."""

from __future__ import annotations

import json
import sys
import threading
import time

from benchmarks.speed.peers.wire import serve
from benchmarks.speed.subjects import TASK
from terminal_gym.env import TerminalEnv
from terminal_gym.llm.reply import read
from terminal_gym.machine import Cold, Machines, WarmPool
from terminal_gym.rollout.engine import Bounds
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.tasks.catalogue import find_task


class Ours:
    """A shell on a PTY that is kept, a screen, a step that waits for a fact, and the default mode's verdict."""

    def __init__(self, runtime: str, *, judge_ahead: bool):
        self._runtime = open_runtime(runtime)
        self._runtime.check()
        self._task = find_task(TASK)
        self._runtime.build(self._task.image)
        self._judge_ahead = judge_ahead
        self._machines: Machines = Cold(self._runtime)
        # As a rollout bounds them: on a few processors, more at once only makes each of them slower.
        bounds = Bounds()
        self._starts = threading.Semaphore(bounds.starts)
        self._verdicts = threading.Semaphore(bounds.verifications)

    def reset(self) -> TerminalEnv:
        """Return an environment at its first prompt."""
        env = TerminalEnv(
            self._task,
            runtime=self._runtime,
            step_s=120.0,
            machines=self._machines,
            judge_ahead=self._judge_ahead,
            verdicts=self._verdicts,
        )
        with self._starts:
            env.reset()
        return env

    def step(self, env: TerminalEnv, command: str) -> str:
        """Type a line; returns what it printed, of long output head and tail."""
        return str(env.step(command + "\n")[0]["output"])

    def terminus(self, env: TerminalEnv, command: str) -> str:
        """Carry out the JSON reply of Terminus-2 with the duration that its prompt advises for such a command."""
        batch = [{"keystrokes": command + "\n", "duration": 0.1}]
        reply = read(json.dumps({"analysis": "", "plan": "", "commands": batch}), "terminus")
        assert reply.action is not None, reply
        return str(env.step(reply.action)[0]["output"])

    def verify(self, env: TerminalEnv) -> bool:
        """Submit: everything is killed, and the default mode judges what is left."""
        env.step("<submit>")
        return env.verdict is not None and env.verdict.passed

    def close(self, env: TerminalEnv) -> None:
        """Remove the sandbox."""
        env.close()

    def leave(self) -> None:
        """Close the runtime."""
        self._runtime.close()


class Warm(Ours):
    """The same by a pool: what starts while an agent thinks is not waited for."""

    def __init__(self, runtime: str):
        super().__init__(runtime, judge_ahead=False)
        self._pool = WarmPool(self._runtime)
        self._machines = self._pool

    def ahead(self) -> None:
        """Have a machine started."""
        self._pool.prepare(self._task)
        while not self._pool.ready(self._task):
            time.sleep(0.005)

    def leave(self) -> None:
        """Close the pool and the runtime."""
        self._pool.close()
        super().leave()


if __name__ == "__main__":
    serve(
        Warm(sys.argv[1])
        if "warm" in sys.argv[2:]
        else Ours(sys.argv[1], judge_ahead="ahead" in sys.argv[2:])
    )
