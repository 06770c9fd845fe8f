"""A shell on a local PTY, driven like a sandbox: the smallest thing that a Session can be opened on."""

from __future__ import annotations

import os
import shutil
import termios
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect

from terminal_gym.trusted_runtime.guest import blocked_reader

if TYPE_CHECKING:
    from pexpect.spawnbase import SpawnBase

GUEST = Path(blocked_reader.__file__).parent / "shell"
ARGV: Mapping[str, list[str]] = {
    "bash": ["bash", "--rcfile", str(GUEST / "bashrc"), "-i"],
    "zsh": ["zsh", "-i"],
    "dash": ["dash", "-i"],
    "ash": ["busybox", "ash", "-i"],
}
ENV: Mapping[str, Mapping[str, str]] = {
    "bash": {},
    "zsh": {"ZDOTDIR": str(GUEST / "zsh")},
    "dash": {"ENV": str(GUEST / "shrc")},
    "ash": {"ENV": str(GUEST / "shrc")},
}


class LocalWire:
    """What PID 1 of a sandbox does for its shell, done here for a shell on this machine.

    Args:
        shell: A key of ARGV.
        home: Becomes HOME and the working directory.
        nonce: Handed to the shell on fd 9.
        sees_proc: Whether `init_pid` tells; without it the session must do with hints or marks.
        hints: Whether `ask_for_hint` is answered, by a thread that stands in for PID 1.
        argv: Runs instead of the shell.
    """

    def __init__(
        self,
        shell: str,
        home: Path,
        *,
        nonce: str,
        rows: int = 40,
        cols: int = 160,
        sees_proc: bool = True,
        hints: bool = False,
        argv: list[str] | None = None,
        env: Mapping[str, str] | None = None,
    ):
        self._sees_proc, self._hints, self._nonce = sees_proc, hints, nonce
        self._wanted, self._closed = threading.Event(), threading.Event()

        def prepare() -> None:
            reads, writes = os.pipe()
            os.write(writes, nonce.encode() + b"\n")
            os.close(writes)
            os.dup2(reads, 9)
            os.set_inheritable(9, True)
            os.close(reads)
            attributes = termios.tcgetattr(0)
            attributes[0] &= ~(termios.IXON | termios.IXOFF)
            termios.tcsetattr(0, termios.TCSANOW, attributes)

        argv = argv or ARGV[shell]
        plain = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        self._child = pexpect.spawn(
            shutil.which(argv[0]) or argv[0],
            argv[1:],
            dimensions=(rows, cols),
            cwd=str(home),
            env={**plain, **ENV[shell], **(env or {})},
            preexec_fn=prepare,
            use_poll=True,
        )
        self.stream: SpawnBase[bytes] = self._child
        if hints:
            threading.Thread(target=self._answer, daemon=True).start()

    def resize(self, rows: int, cols: int) -> None:
        self._child.setwinsize(rows, cols)

    def init_pid(self) -> int | None:
        return self._child.pid if self._sees_proc else None

    def ask_for_hint(self) -> None:
        self._wanted.set()

    def exit_code(self) -> int | None:
        self._child.isalive()
        if self._child.signalstatus is not None:
            return 128 + self._child.signalstatus
        return self._child.exitstatus

    def lost(self, *, ended: bool, owed: bool = True) -> str:
        return ""  # nothing here is ended from outside

    def close(self) -> None:
        self._closed.set()
        self._child.delayafterclose = self._child.delayafterterminate = 0.01
        self._child.close(force=True)

    def _answer(self) -> None:
        is_open, before = False, None
        while not self._closed.wait(0.002):
            if (
                self._wanted.is_set()
            ):  # as PID 1 does, begin anew: none of our questions is lost in an older one
                self._wanted.clear()
                is_open, before = True, None
            if not is_open:
                continue
            seen = blocked_reader.find(self._child.pid)
            if seen is not None and seen == before:
                is_open = False
                try:
                    fd = os.open(f"/proc/{self._child.pid}/fd/0", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
                except OSError:
                    return
                os.write(fd, b"\x1b]6973;%s;waiting;%d.%d\x07" % (self._nonce.encode(), *seen))
                os.close(fd)
            before = seen
