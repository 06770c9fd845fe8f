"""A moment of an episode that others can go on from: its files, where its shell stood, and what was used up.

It lives until its maker and every branch made from it have closed it. Processes are no part of it: a branch starts a
new shell, so variables, jobs and running programs are gone.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from terminal_gym.errors import EpisodeNotRunning, SandboxError
from terminal_gym.sandbox.base import Sandbox, Snapshot
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Observation, StepOutcome
from terminal_gym.trusted_runtime.tree import GUEST

_HELPER_S = 10.0
# The shell is the oldest child of PID 1: whatever else it adopted was started by the shell.
_FIND = """
import os
with open("/proc/1/task/1/children") as file:
    children = file.read().split()
def started(pid):
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])
print(end=os.readlink(f"/proc/{min(children, key=started)}/cwd"))
"""


class Checkpoint:
    """What `TerminalEnv.snapshot` returns; a context manager whose end is `close`.

    Args:
        files: Owned by this from now on.
        task: Whose episode it is a moment of.
        steps: Taken until then, over all branches before.
        elapsed_s: Of the task's time, likewise.
        folder: Where the shell stood, "" where that cannot be known.
        seen: The last observation.
        task_step: Of a task in several steps, the one that was under way; 0 of any other.
        played: How those before it ended.
    """

    def __init__(
        self,
        files: Snapshot,
        *,
        task: Task,
        steps: int,
        elapsed_s: float,
        folder: str,
        seen: Observation,
        task_step: int = 0,
        played: tuple[StepOutcome, ...] = (),
    ):
        self.files, self.task, self.folder, self.seen = files, task, folder, seen
        self.steps, self.elapsed_s = steps, elapsed_s
        self.task_step, self.played = task_step, played
        self._mutex = threading.Lock()
        self._holders = 1
        self._close = self._once(self._let_go)

    @property
    def is_open(self) -> bool:
        """Whether branches can be made from it, or can still begin at it."""
        return self._holders > 0

    def hold(self) -> Callable[[], None]:
        """Keep it for one more user; returns what that user calls at its end.

        Raises:
            EpisodeNotRunning: All have let it go.
        """
        with self._mutex:
            if not self._holders:
                raise EpisodeNotRunning(
                    "The snapshot is closed. Take another, or close it after its branches."
                )
            self._holders += 1
        return self._once(self._let_go)

    def close(self) -> None:
        """Let it go; its files go with the last branch. Safe to call again."""
        self._close()

    def _let_go(self) -> None:
        with self._mutex:
            self._holders -= 1
            last = not self._holders
        if last:
            self.files.close()

    def _once(self, act: Callable[[], None]) -> Callable[[], None]:
        calls = iter([act])

        def acted() -> None:
            with self._mutex:
                first = next(calls, None)
            if first is not None:
                first()

        return acted

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def folder_of_shell(sandbox: Sandbox, *, user: str, init: int | None) -> str:
    """Return where the shell of a booted sandbox stands; "" where it stands nowhere, or nobody can tell.

    The answer is an agent's word: a name to hand back into its own machine, and nothing else.

    Args:
        user: Whose shell it is.
        init: PID 1 as this host sees it, where it does: asking the kernel is quicker than a helper in the sandbox.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        if init is not None:
            children = Path(f"/proc/{init}/task/{init}/children").read_text("ascii").split()
            shell = min(children, key=_started)
            return _stood(str(Path(f"/proc/{shell}/cwd").readlink()))
    with contextlib.suppress(SandboxError):
        found = sandbox.run(
            [f"{GUEST}/bin/python3", "-I", "-S", "-B", "-c", _FIND],
            timeout_s=_HELPER_S,
            user=user,  # the shell's: root of a sandbox may not look at others' processes
        )
        if found.exit_code == 0:
            return _stood(os.fsdecode(found.stdout))
    return ""


def _started(pid: str) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def _stood(link: str) -> str:
    return link if link.startswith("/") and not link.endswith(" (deleted)") else ""
