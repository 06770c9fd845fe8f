"""A third runtime: a shell of this machine in a folder, no isolation, judged by a function of that folder.

It passes what `TerminalEnv` asks of a runtime, so that the Gymnasium side is tested quickly and its faults at will.
Type only harmless commands: they run here.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from kit.local_wire import LocalWire

from terminal_gym.errors import ImageMissing
from terminal_gym.sandbox.base import ExecResult, Image, Runtime, Sandbox, SandboxSpec
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Check
from terminal_gym.trusted_runtime.orders import Orders, ShellOrders
from terminal_gym.validation.verdict import Verdict

MISSING = "fake/missing:1"


@dataclass
class FakeRuntime:
    """Counts what it holds. `fault`, where set, is asked with the method's name and may raise."""

    shell: str = "bash"
    fault: Callable[[str], None] = lambda method: None
    held: list[FakeSandbox] = field(default_factory=list)
    kept: list[FakeSnapshot] = field(default_factory=list)
    started: int = 0
    name: str = "fake"

    def check(self) -> None:
        self.fault("check")

    def image(self, name: str) -> Image:
        if name == MISSING:
            raise ImageMissing(f"fake holds no image named {name!r}.")
        return Image(name, "sha256:0")

    def build(self, recipe: ImageRecipe, *, log: Callable[[str], None] | None = None) -> Image:
        return self.image(recipe.name)

    def remove_image(self, name: str) -> None:
        self.fault("remove_image")

    def image_bytes(self, name: str) -> int:
        return 0

    def disk_free_bytes(self) -> int | None:
        return None

    def start(self, spec: SandboxSpec) -> FakeSandbox:
        self.fault("start")
        self.started += 1
        self.held.append(FakeSandbox(self, spec))
        return self.held[-1]

    def reap(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        for sandbox in list(self.held):
            sandbox.close()


class FakeSandbox:
    """One shell in a temporary folder, `home`."""

    def __init__(self, runtime: FakeRuntime, spec: SandboxSpec):
        self.runtime, self.name, self.image = runtime, spec.name, runtime.image(spec.image)
        self._folder = tempfile.TemporaryDirectory(prefix="tgym-fake-", ignore_cleanup_errors=True)
        self.home = Path(self._folder.name)
        self._wire: LocalWire | None = None

    def boot(self, orders: Orders, *, rows: int = 40, cols: int = 160, deadline_s: float = 30.0) -> LocalWire:
        self.runtime.fault("boot")
        assert isinstance(orders, ShellOrders)
        shell = self.runtime.shell
        self._wire = LocalWire(shell, self.home, nonce=orders.nonce, rows=rows, cols=cols, env=orders.env)
        return self._wire

    def run(
        self,
        argv: list[str],
        *,
        timeout_s: float,
        user: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
    ) -> ExecResult:
        return ExecResult(127, b"", b"no helpers here")

    def stop(self) -> None:
        self.runtime.fault("stop")
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def lose(self) -> None:
        """Let its shell die, as with its machine."""
        if self._wire is not None:
            self._wire.close()

    def read_archive(self, path: str, *, limit_bytes: int) -> bytes | None:
        return None

    def write_archive(self, archive: bytes) -> None:
        raise NotImplementedError

    def run_in(self, service: str, argv: list[str], *, timeout_s: float, user: str = "") -> ExecResult:
        raise NotImplementedError

    def read_from(self, service: str, path: str, *, limit_bytes: int) -> bytes | None:
        return None

    def written_bytes(self) -> int:
        return 0

    def changed_paths(self, *, limit: int = 10_000) -> tuple[str, ...]:
        return ()

    def snapshot(self) -> FakeSnapshot:
        self.runtime.fault("snapshot")
        return FakeSnapshot(self)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        self._folder.cleanup()
        if self in self.runtime.held:
            self.runtime.held.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FakeSnapshot:
    """A copy of a sandbox's folder."""

    def __init__(self, sandbox: FakeSandbox):
        self.runtime, self.image = sandbox.runtime, sandbox.image
        self._folder = tempfile.TemporaryDirectory(prefix="tgym-fake-", ignore_cleanup_errors=True)
        shutil.copytree(sandbox.home, self._folder.name, dirs_exist_ok=True)
        self.runtime.kept.append(self)

    def start(self, spec: SandboxSpec) -> FakeSandbox:
        sandbox = self.runtime.start(spec)
        shutil.copytree(self._folder.name, sandbox.home, dirs_exist_ok=True)
        return sandbox

    def close(self) -> None:
        self._folder.cleanup()
        if self in self.runtime.kept:
            self.runtime.kept.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FileValidator:
    """Passes where the agent left a file `out.txt` in its folder."""

    def judge(self, sandbox: Sandbox, task: Task, *, runtime: Runtime) -> Verdict:
        assert isinstance(sandbox, FakeSandbox)
        sandbox.stop()
        passed = (sandbox.home / "out.txt").exists()
        check = Check("test_outputs.py::test_out", "passed" if passed else "failed")
        return Verdict("passed" if passed else "failed", "restart", "" if passed else "checks", (check,))
