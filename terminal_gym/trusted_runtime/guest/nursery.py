"""Bears the processes of embedded sandboxes: one process with everything imported, whose children start at once.

    nursery.py FD

Each message on the socket FD (SOCK_SEQPACKET) is JSON with descriptors, the first of which is a socket of the child's
own. The nursery bears keepers, and a keeper, which holds the mounts of one sandbox, bears what runs in it:

    to the nursery  {base, size_mb, cwd, folders, files, copy, mounts}, descriptors: own, this machine's mount namespace
    to a keeper     {run, walls, keeps, rlimits, network}, descriptors: own, stdin, stdout, stderr, the network
                    namespace to join where `network` is "joined", files of control groups to enter. `run` is
                    ["init"], which is PID 1 of the sandbox, or ["pack", path, limit]

On its own socket a child says "born" and waits for one byte: so the reader learns its process id from the kernel
(SCM_CREDENTIALS). Or it says "failed WHY", and then there is no child. Of what it bore a keeper says at last
"ended N", N as in `Popen.returncode`. A keeper reads its messages from its own socket and ends when that does, with all
that runs in its process namespace; the nursery ends with its socket, and its keepers with it.

The first message of all is the filter of system calls. The nursery holds nothing but the trusted tree: it sees no file
of this machine, gets no key and no test, and never reads a byte that a sandbox wrote.
"""

from __future__ import annotations

import sys

for _name in ("terminal_gym", "terminal_gym.trusted_runtime", "terminal_gym.trusted_runtime.guest"):
    _package = type(sys)(_name)
    _package.__path__ = [__file__.rpartition("/")[0]] if _name.endswith(".guest") else []
    sys.modules[_name] = _package

import ctypes  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from terminal_gym.trusted_runtime.guest import (  # noqa: E402
    archive,
    blocked_reader,  # noqa: F401  # imported here and not by each child: so are the next
    duty,
    enclosure,
    judge,  # noqa: F401
    keeper,  # noqa: F401
    privileges,
    run_pytest,
    script,  # noqa: F401
    unpack,  # noqa: F401
)

if TYPE_CHECKING:
    from typing import Any, NoReturn

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = (
    1 << 17, 1 << 25, 1 << 26, 1 << 27, 1 << 29, 1 << 30,
)  # fmt: skip
_PR_SET_PDEATHSIG = 1
_MOST_BYTES, _MOST_FDS = 1 << 17, 24

_libc = ctypes.CDLL(None, use_errno=True)


def serve(asked: socket.socket) -> NoReturn:
    """Bear a keeper for each message, until there are no more."""
    program = asked.recv(_MOST_BYTES)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # as where a terminal is found at the start
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not waited for
    bearing = _Bearing()
    is_first = True
    while True:
        if not (is_first or run_pytest.is_warm() or select.select([asked], [], [], 0)[0]):
            _warm_up()
        message, fds, _flags, _address = socket.recv_fds(asked, _MOST_BYTES, _MOST_FDS)
        if not message:
            os._exit(0)
        is_first = False
        if bearing.bear(fds[0]) == 0:
            _keep(json.loads(message), fds, program)
        for fd in fds:
            os.close(fd)


def _warm_up() -> None:
    """Get ready to judge. After the first child, which is a shell's and has not to wait for that."""
    run_pytest.warm_up()
    gc.collect()
    gc.freeze()  # or each child's first collection would touch, and so copy, every object


class _Bearing:
    """Bears children each of which is the first process of a new process namespace."""

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def bear(self, told: int) -> int:
        """Return 0 in the child, its process id in the parent, -1 where there is none and `told` was told so."""
        pid = -1
        try:
            enclosure.check(
                _libc.unshare(_NEWPID), "a new process namespace"
            )  # of children: the caller stays where it is
            pid = os.fork()
        except OSError as error:
            os.write(told, f"failed {error}".encode())
        if pid != 0:
            _libc.setns(self._own, _NEWPID)
        return pid


def _keep(want: dict[str, Any], fds: list[int], program: bytes) -> NoReturn:
    """Hold the mounts of one sandbox, and bear what runs in it."""
    told = fds[0]
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        privileges.hide()
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        enclosure.check(_libc.setns(fds[1], _NEWNS), "this machine's mount namespace")
        enclosure.check(_libc.unshare(_NEWNS), "a new mount namespace")
        _close_all_but(told)
        os.umask(0o022)
        enclosure.mount_root(want)
        bearing = _Bearing()
        _say_born(told)
    except BaseException as error:
        _fail(told, error)
    asked, born = socket.socket(fileno=told), dict[int, int]()
    waiting = select.poll()
    waiting.register(asked, select.POLLIN)
    while True:
        ready = waiting.poll()
        if any(fd == told for fd, _event in ready):
            message, fds, _flags, _address = socket.recv_fds(asked, _MOST_BYTES, _MOST_FDS)
            if not message:
                os._exit(0)
            pid = bearing.bear(fds[0])
            if pid == 0:
                _live(json.loads(message), fds, program)
            for fd in fds[1:] if pid > 0 else fds:
                os.close(fd)
            if pid > 0:
                born[pid] = fds[0]
                waiting.register(os.pidfd_open(pid), select.POLLIN)
        for fd, _event in ready:
            if fd != told:
                waiting.unregister(fd)
                os.close(fd)
        _tell_of_ends(born)


def _tell_of_ends(born: dict[int, int]) -> None:
    """Reap whatever has ended, orphans too."""
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if (told := born.pop(ended[0], None)) is not None:
                try:
                    os.write(told, f"ended {os.waitstatus_to_exitcode(ended[1])}".encode())
                except OSError:  # nobody wants to know any more
                    pass
                os.close(told)
    except ChildProcessError:
        pass


def _live(want: dict[str, Any], fds: list[int], program: bytes) -> NoReturn:
    """Be a process of the sandbox: enter its groups and namespaces, build the walls, give up rights, do the work."""
    told, streams, groups = fds[0], fds[1:4], fds[4:]
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        spaces = _NEWNS | _NEWUTS | _NEWIPC
        if want["network"] == "joined":
            enclosure.check(_libc.setns(groups.pop(0), _NEWNET), "the network namespace")
        elif want["network"] == "none":
            spaces |= _NEWNET
        for group in groups:
            os.write(group, b"0")
        _libc.unshare(_NEWCGROUP)  # older kernels have none
        enclosure.check(_libc.unshare(spaces), "new namespaces")
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        _close_all_but(told)
        for name, most in want["rlimits"].items():
            resource.setrlimit(getattr(resource, name), (most, most))
        enclosure.enclose(want["walls"])
        enclosure.give_up(want["keeps"], program)
        _say_born(told)
        os.close(told)
    except BaseException as error:
        _fail(told, error)
    if want["run"][0] == "init":
        duty.serve()
    status = archive.main(["archive.py", *want["run"]])
    sys.stdout.flush()
    os._exit(status)


def _say_born(told: int) -> None:
    os.write(told, b"born")
    if os.read(told, 1) != b"!":
        os._exit(1)


def _fail(told: int, error: BaseException) -> NoReturn:
    os.write(told, f"failed {error}".encode())
    os._exit(125)


def _close_all_but(kept: int) -> None:
    os.closerange(3, kept)
    os.closerange(kept + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
