"""The way to start embedded sandboxes as root: as children of one trusted process that has everything imported.

The nursery (`guest/nursery.py`) is one process for each of ours, started at the first want, in a root of its own in
which there is nothing but the trusted tree. Its end is the end of its socket, which only we hold. An ordinary user has
none: a process cannot enter user namespaces that are not below its own; see `launch.py` for what starts there.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import platform
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from terminal_gym.errors import StartFailed
from terminal_gym.sandbox import seccomp
from terminal_gym.trusted_runtime.tree import INIT_ENV, empty_beside, trusted_tree

_LEAST_KERNEL = (5, 12)  # mount_setattr
_BIRTH_S, _END_S = 30.0, 5.0
# The nursery's root: a tmpfs over an empty folder, seen by it alone. Devices and /proc for what pytest looks at.
_ROOT = """
set -e
mount -n -t tmpfs -o size=16m,mode=755 tgym {root}
cd {root}
mkdir tg dev proc tmp
mount -n --bind {tree} tg
mount -n -o remount,bind,ro,nosuid,nodev tg
mount -n --rbind /dev dev
mount -n --rbind /proc proc
exec chroot . /tg/bin/python3 -I -S -B -X utf8 /tg/guest/nursery.py {fd}
"""


class Born:
    """A process of a sandbox, in the words of `subprocess.Popen`; its keeper tells of its end on a socket."""

    def __init__(self, told: socket.socket, pid: int):
        self.pid = pid  # as this host sees it
        self.returncode: int | None = None
        self._told = told
        self._mutex = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It runs on.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self._look(5.0 if until is None else max(0.0, until - time.monotonic()))) is None:
            if until is not None and time.monotonic() >= until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def kill(self) -> None:
        """End it by SIGKILL, where it still runs."""
        with self._mutex:
            if self.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)

    def _look(self, wait_s: float) -> int | None:
        if self.returncode is None and is_readable(self._told.fileno(), wait_s):
            with self._mutex:
                if self.returncode is None:
                    said = self._told.recv(1000)
                    # No word at all: its keeper has ended, and with it all that ran in the keeper's namespaces.
                    self.returncode = int(said.split()[1]) if said.startswith(b"ended ") else -signal.SIGKILL
                    self._told.close()
        return self.returncode


class Keeper:
    """The process that holds a sandbox's mounts and bears what runs there; its end is the end of all of it."""

    def __init__(self, told: socket.socket, pid: int):
        self.pid = pid  # as this host sees it
        self._told, self._mutex = told, threading.Lock()
        self._handle = os.pidfd_open(pid)

    def bear(self, want: dict[str, Any], fds: Sequence[int]) -> Born:
        """Start one process; `guest/nursery.py` says what `want` and `fds`, from stdin on, hold.

        Raises:
            StartFailed: The kernel refused, or it took too long.
        """
        try:
            return Born(*_ask(self._told, self._mutex, want, fds, timeout_s=_BIRTH_S))
        except OSError as error:
            raise StartFailed(f"the sandbox's first process cannot be started: {error}") from error

    def close(self) -> None:
        """End it, and wait until all that ran in its namespaces is gone. Safe to call again."""
        if self._handle < 0:
            return
        self._told.close()
        if not is_readable(self._handle, _END_S):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            is_readable(self._handle, None)
        os.close(self._handle)
        self._handle = -1


class Nursery:
    """The process and its socket."""

    def __init__(self) -> None:
        tree = trusted_tree()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        script = _ROOT.format(
            root=shlex.quote(str(empty_beside(tree))), tree=shlex.quote(str(tree.path)), fd=theirs.fileno()
        )
        try:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=INIT_ENV,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        finally:
            theirs.close()
        self._mutex = threading.Lock()
        self._socket.send(seccomp.program())

    def is_alive(self) -> bool:
        """Whether it can still bear."""
        return self._process.poll() is None

    def keep(self, want: dict[str, Any], *, timeout_s: float) -> Keeper:
        """Start the keeper of one sandbox; `guest/nursery.py` says what `want` holds.

        Raises:
            StartFailed: The kernel refused, or it took too long.
        """
        with Path("/proc/self/ns/mnt").open("rb") as here:
            try:
                return Keeper(*_ask(self._socket, self._mutex, want, [here.fileno()], timeout_s=timeout_s))
            except OSError as error:
                why = f"{error}. {self._last_words()}".rstrip()
                raise StartFailed(f"the sandbox's file system cannot be mounted: {why}") from None

    def _last_words(self) -> str:
        if self.is_alive():
            return ""
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        said = (self._process.stderr.read() or b"")[-500:].decode(errors="replace").strip()
        return f"The nursery ended with {self._process.returncode}: {said}"

    def close(self) -> None:
        """End it, and with it what it bore."""
        self._socket.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()


def _ask(
    of: socket.socket, mutex: threading.Lock, want: dict[str, Any], fds: Sequence[int], *, timeout_s: float
) -> tuple[socket.socket, int]:
    """Have a child born; returns its socket and its process id as this host sees it.

    Raises:
        OSError: There is none; the message says why.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.settimeout(timeout_s)
        with theirs, mutex:
            socket.send_fds(of, [json.dumps(want).encode()], [theirs.fileno(), *fds])
        said, told, _flags, _address = ours.recvmsg(2000, socket.CMSG_SPACE(12))
        if said != b"born":
            why = said.decode(errors="replace").removeprefix("failed ")
            raise OSError(why or "it ended without a word")
        pid, _uid, _gid = struct.unpack("iii", told[0][2])
        ours.send(b"!")
        ours.settimeout(None)
    except TimeoutError as error:
        ours.close()
        raise OSError(f"not within {timeout_s:g} s") from error
    except BaseException:
        ours.close()
        raise
    return ours, pid


def is_readable(fd: int, wait_s: float | None) -> bool:
    """Wait until it is; for a descriptor of a process that is when it has ended."""
    waiting = select.poll()  # `select` knows no descriptor above 1,023
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(None if wait_s is None else wait_s * 1000))


_mutex = threading.Lock()
_of_process: dict[int, Nursery] = {}


def nursery() -> Nursery:
    """Return this process's own; a new one where there is none yet or where it has ended."""
    with _mutex:
        found = _of_process.get(os.getpid())
        if found is None or not found.is_alive():
            if found is not None:
                found.close()
            else:
                atexit.register(end_own)
            found = _of_process[os.getpid()] = Nursery()
        return found


def end_own() -> None:
    """End this process's nursery, and every sandbox with it; another comes at the next want."""
    if (own := _of_process.pop(os.getpid(), None)) is not None:
        own.close()


@functools.cache
def is_possible() -> bool:
    """Whether there can be one: root, and a kernel that is new enough."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    return os.geteuid() == 0 and numbers >= _LEAST_KERNEL
