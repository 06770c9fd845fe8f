"""Bears PID 1 of each embedded sandbox: one process with everything imported, whose children enter their own walls.

    nursery.py FD    a socket (SOCK_SEQPACKET) on which one message asks for one child

A message is JSON, {run, walls, keeps, rlimits, network}, with descriptors: a socket of the child's own, its stdin,
stdout and stderr, the mount and the process namespace it is to live in, the network namespace to join where `network`
is "joined", and files of control groups to enter. `run` is ["init"] or ["pack", path, limit]. On its own socket the
child says "born" and waits for one byte: so the reader learns its process id from the kernel (SCM_CREDENTIALS). Later
comes "ended N", N as in `Popen.returncode`; or "failed WHY", and then there is no child.

The first message of all is the filter of system calls. The nursery holds nothing but the trusted tree: it sees no file
of the host's, gets no key and no test, and never reads a byte that a sandbox wrote. It ends when its socket does, and
its children's parents end with it.
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
    """Bear a child for each message, until there are no more."""
    program = asked.recv(_MOST_BYTES)
    own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # as where a terminal is found at the start
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # parents of children are not waited for
    born = 0
    while True:
        if born and not run_pytest.is_warm() and not select.select([asked], [], [], 0)[0]:
            _warm_up()
        message, fds, _flags, _address = socket.recv_fds(asked, _MOST_BYTES, _MOST_FDS)
        if not message:
            os._exit(0)
        # The parent of the child is to be inside of its process namespace already, so that it goes with it.
        problem = "" if _setns(fds[5], _NEWPID) else _why("the process namespace cannot be entered")
        pid = -1
        if not problem:
            try:
                pid = os.fork()
            except OSError as error:
                problem = str(error)
        if pid == 0:
            _be_parent(json.loads(message), fds, program)
        _setns(own_pids, _NEWPID)
        if problem:
            os.write(fds[0], f"failed {problem}".encode())
        for fd in fds:
            os.close(fd)
        born += 1


def _warm_up() -> None:
    """Get ready to judge. After the first child, which is a shell and has not to wait for that."""
    run_pytest.warm_up()
    gc.collect()
    gc.freeze()  # or each child's first collection would touch, and so copy, every object


def _be_parent(want: dict[str, Any], fds: list[int], program: bytes) -> NoReturn:
    """Make the namespaces, bear the child into them, tell of its end."""
    told = fds[0]
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        privileges.hide()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _enter(fds[4], _NEWNS, "the mount namespace")
        groups = fds[7:] if want["network"] == "joined" else fds[6:]
        if want["network"] == "joined":
            _enter(fds[6], _NEWNET, "the network namespace")
        spaces = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | (_NEWNET if want["network"] == "none" else 0)
        if _libc.unshare(spaces) != 0:
            raise OSError(_why("unshare"))
        pid = os.fork()
        if pid == 0:
            _be_child(want, fds[:4], groups, program)
        _close_all_but(told)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(told, f"ended {status}".encode())
    except BaseException as error:
        os.write(told, f"failed {error}".encode())
    os._exit(0)


def _be_child(want: dict[str, Any], fds: list[int], groups: list[int], program: bytes) -> NoReturn:
    told = fds[0]
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for group in groups:
            os.write(group, b"0")
        _libc.unshare(_NEWCGROUP)  # older kernels have none
        for number, fd in enumerate(fds[1:]):
            os.dup2(fd, number)
        _close_all_but(told)
        os.umask(0o022)
        for name, most in want["rlimits"].items():
            resource.setrlimit(getattr(resource, name), (most, most))
        enclosure.enclose(want["walls"])
        enclosure.give_up(want["keeps"], program)
        os.write(told, b"born")
        if os.read(told, 1) != b"!":
            os._exit(1)
    except BaseException as error:
        os.write(told, f"failed {error}".encode())
        os._exit(125)
    os.close(told)
    _run(want["run"])


def _run(argv: list[str]) -> NoReturn:
    if argv == ["init"]:
        duty.serve()
    if argv[0] == "pack":
        status = archive.main(["archive.py", *argv])
        sys.stdout.flush()
        os._exit(status)
    os._exit(2)


def _close_all_but(kept: int) -> None:
    os.closerange(3, kept)
    os.closerange(kept + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _enter(fd: int, kind: int, what: str) -> None:
    if not _setns(fd, kind):
        raise OSError(_why(f"{what} cannot be entered"))


def _setns(fd: int, kind: int) -> bool:
    return bool(_libc.setns(fd, kind) == 0)


def _why(what: str) -> str:
    return f"{what}: {os.strerror(ctypes.get_errno())}"


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
