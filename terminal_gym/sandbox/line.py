"""The attached terminal of a container: the Engine's hijacked stream as a pexpect object."""

from __future__ import annotations

import contextlib
import random
import socket
import string
import time
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound
from pexpect.socket_pexpect import SocketSpawn

from terminal_gym.errors import SandboxLost
from terminal_gym.sandbox.engine import Engine

_KILLED = 128 + 9
_LAST_WORDS_S, _LOOK_S = 5.0, 0.05  # for a container to end whose terminal has


class Line:
    """A Console in the words of base.py; attach it before the container starts, so that no byte is lost."""

    def __init__(self, engine: Engine, id: str, name: str):
        self._engine, self._id, self._name = engine, id, name
        # Whoever can type the detach keys loses the terminal, so they cannot be guessed. The first is a NUL: no other
        # key is held back while the daemon waits for the rest.
        secret = ",".join(random.SystemRandom().choices(string.ascii_lowercase, k=12))
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "detachKeys": f"ctrl-@,{secret}"}
        self._attached = engine.attached(id, params)
        raw: socket.socket = getattr(self._attached, "_sock", self._attached)
        raw.settimeout(engine.call_s)  # of writing: a daemon that hangs would take nothing for ever
        self._raw = raw
        self.stream: SocketSpawn[bytes] = SocketSpawn(raw, maxread=131_072, searchwindowsize=300)
        _hurry(self.stream)
        self._pid: int | None = None

    def resize(self, rows: int, cols: int) -> None:
        """Give the terminal another size, in cells."""
        with self._engine.calling("resize", sandbox=self._name):
            self._engine.client.resize(self._id, rows, cols)

    def init_pid(self) -> int | None:
        """PID 1 as this host sees it, None where its /proc cannot be read from here."""
        if self._pid is None and self._engine.is_local:
            pid = int(self._state()["Pid"])
            try:
                Path(f"/proc/{pid}/syscall").read_bytes()
                self._pid = pid
            except OSError:
                return None
        return self._pid

    def ask_for_hint(self) -> None:
        """Ask PID 1 to say, once, that the foreground process waits for input."""
        with self._engine.calling("signal", sandbox=self._name), contextlib.suppress(APIError):
            self._engine.client.kill(self._id, "SIGUSR1")

    def exit_code(self) -> int | None:
        """Status of PID 1 once it has ended."""
        state = self._state()
        return None if state["Running"] else int(state["ExitCode"])

    def lost(self, *, ended: bool, owed: bool = True) -> str:
        """Return what befell it from outside of the container; see `Console` in base.py."""
        until = time.monotonic() + (_LAST_WORDS_S if ended else 0.0)
        while (state := self._state())["Running"] and time.monotonic() < until:
            time.sleep(_LOOK_S)
        if state["Running"]:
            return "the Engine dropped its terminal while it ran" if ended else ""
        if state["ExitCode"] == 0 and owed:
            return "the Engine did not deliver what it said last"
        if state["ExitCode"] == _KILLED and not self._ran_out_of_memory(state):
            return "it was killed from outside"
        return ""

    def _ran_out_of_memory(self, state: dict[str, Any]) -> bool:
        return bool(state.get("OOMKilled"))

    def _state(self) -> dict[str, Any]:
        with self._engine.calling("inspect", sandbox=self._name):
            try:
                state: dict[str, Any] = self._engine.client.inspect_container(self._id)["State"]
            except NotFound:
                raise SandboxLost(f"the container of {self._name} is gone") from None
        return state

    def hang_up(self) -> None:
        """Close the stream; safe to call again."""
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_RDWR)
        if (response := getattr(self._attached, "_response", None)) is not None:
            response.close()  # before what it reads from: Python 3.13 complains of the other order, later, to stderr
        self._attached.close()
        self._raw.close()
        self.stream.child_fd, self.stream.closed = -1, True


def _hurry(stream: SocketSpawn[bytes]) -> None:
    """Take out the pauses that pexpect makes for programs which read passwords, or die slowly."""
    stream.delaybeforesend = None
    stream.delayafterread = None
    stream.delayafterclose = stream.delayafterterminate = 0.0
