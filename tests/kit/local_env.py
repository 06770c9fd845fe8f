"""A second environment for the loop: a shell of this machine, no sandbox, judged by a function of its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kit.local_wire import LocalWire

from terminal_gym.errors import StartFailed
from terminal_gym.rollout.episode import Info
from terminal_gym.sandbox.base import Image
from terminal_gym.tasks.task import Task
from terminal_gym.terminal.session import Session
from terminal_gym.trajectory.record import Action, Check, Frame, Observation
from terminal_gym.validation.verdict import Verdict

NONCE = "10ca1e0010ca1e00"


class LocalEnv:
    """Plays `task` in `home`; passes where `judge(home)` holds.

    Args:
        task: Only its limits count.
        home: Working directory of the shell.
        judge: Asked once, after the shell is gone.
        shell: A key of `local_wire.ARGV`.
        breaks_after: Step that raises StartFailed, as a lost machine would; 0: the reset does; None: none.
    """

    runtime_name = "local"
    size = (24, 80)

    def __init__(
        self,
        task: Task,
        home: Path,
        judge: Callable[[Path], bool],
        *,
        shell: str = "bash",
        breaks_after: int | None = None,
    ):
        self.task, self.home, self.judge, self.shell, self.breaks_after = (
            task,
            home,
            judge,
            shell,
            breaks_after,
        )
        self.image: Image | None = None
        self.verdict: Verdict | None = None
        self.seen = Observation("", "", (0, 0))
        self.seeds: list[int | None] = []
        self._frames: list[Frame] = []
        self._steps = 0

    @property
    def frames(self) -> tuple[Frame, ...]:
        return tuple(self._frames)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[object, Info]:
        self.seeds.append(seed)
        self._fail_if(0)
        self.verdict, self._steps = None, 0
        self.image = Image("local", "sha256:0")
        self._wire = LocalWire(self.shell, self.home, nonce=NONCE, rows=24, cols=80)
        self._session = Session(self._wire, nonce=NONCE, rows=24, cols=80, frames=self._frames.append)
        self._see(self._session.open(10.0).fact)
        return self.seen, {}

    def step(self, action: Action) -> tuple[object, float, bool, bool, Info]:
        self._steps += 1
        if action.submit:
            self.close()
            passed = self.judge(self.home)
            check = Check("test_local.py::test_it", "passed" if passed else "failed")
            status = "passed" if passed else "failed"
            self.verdict = Verdict(status, "restart", "" if passed else "checks", (check,), seconds=0.001)
            return self.seen, float(passed), True, False, {}
        for keys in action.keys:
            self._session.send(keys)
        self._see(self._session.settle(deadline_s=action.wait_s or 10.0).fact)
        self._fail_if(self._steps)
        return self.seen, 0.0, False, False, {}

    def close(self) -> None:
        if self.image is not None:
            self._session.close()
            self._wire.close()

    def _see(self, fact: str) -> None:
        shown = self._session.screen()
        self.seen = Observation(shown.text(), self._session.text(), shown.cursor, settled_by=fact)

    def _fail_if(self, step: int) -> None:
        if self.breaks_after == step:
            self.close()
            raise StartFailed("the machine went away")
