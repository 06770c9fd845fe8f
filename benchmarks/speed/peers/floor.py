"""The floors: a bare shell behind the Engine API, in bare namespaces over an overlay, and on a local PTY.

No screen, no settle detection beyond a fixed prompt, no recording, and a verdict that the agent's own shell gives.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TypeAlias

import docker
from pexpect.spawnbase import SpawnBase

from benchmarks.speed import floors
from benchmarks.speed.peers import work
from benchmarks.speed.peers.wire import serve

Opened: TypeAlias = "Callable[[], AbstractContextManager[SpawnBase[bytes]]]"


@dataclass(frozen=True)
class _Shell:
    stream: SpawnBase[bytes]
    opened: ExitStack


class BareShell:
    """One of the floors of `floors.py`, driven by a line and the wait for its prompt."""

    def __init__(self, opened: Opened):
        self._opened = opened

    def reset(self) -> _Shell:
        """Return a shell at its first prompt."""
        stack = ExitStack()
        return _Shell(stack.enter_context(self._opened()), stack)

    def step(self, shell: _Shell, command: str) -> str:
        """Type a line; returns what came before the next prompt, without the line's echo."""
        shell.stream.write(command.encode() + b"\n")  # type: ignore[attr-defined]  # both pexpect classes have it
        shell.stream.expect_exact(floors.PROMPT, timeout=120)
        assert shell.stream.before is not None
        return shell.stream.before.partition(b"\n")[2].decode(errors="replace")

    def close(self, shell: _Shell) -> None:
        """End it and remove what it was in."""
        shell.opened.close()


class SandboxedShell(BareShell):
    """A floor with files of its own, where the work can be done and judged."""

    def __init__(self, opened: Opened, *, python: str):
        super().__init__(opened)
        self._pytest = work.PYTEST.replace("python3", python)

    def verify(self, shell: _Shell) -> bool:
        """Write the tests and run pytest, by one line in this shell."""
        out = self.step(shell, f"{work.put_tests()}; {self._pytest}; echo said-$?")
        return re.search(r"^said-0", out, re.MULTILINE) is not None


def contender(kind: str, image: str) -> BareShell:
    """Return the floor of that name: `engine`, `namespaces` or `pty`."""
    if kind == "engine":
        return SandboxedShell(functools.partial(floors.engine, docker.APIClient(), image), python="python3")
    if kind == "namespaces":
        # Its lower layer is this machine's root, so the interpreter is the one that runs here.
        return SandboxedShell(floors.namespaces, python=sys.executable)
    return BareShell(floors.pty)


if __name__ == "__main__":
    serve(contender(*sys.argv[1:3]))
