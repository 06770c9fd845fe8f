"""Starts a process in a root file system: as root by the nursery, else by bubblewrap, or by util-linux without it.

What runs first is always the trusted interpreter: as PID 1 itself, or to give up privileges, take the user and the
folder asked for, and become the guard of a helper.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from terminal_gym.errors import StartFailed
from terminal_gym.sandbox import nursery
from terminal_gym.sandbox.guard import guarded
from terminal_gym.sandbox.keeper import Keeper
from terminal_gym.tasks.task import Limits
from terminal_gym.trusted_runtime.tree import GUEST, INIT_ARGV, INIT_ENV

CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_SYS_CHROOT": 18,
}
# Root's own files under /proc ask for no capability: whoever is uid 0 could set this machine's core_pattern, and so run
# programs outside. As a mount over them, this also keeps a user namespace inside from mounting a /proc without it.
_READ_ONLY_PROC = ("sys", "irq", "bus", "fs")
_HIDDEN_PROC = ("kcore", "keys", "timer_list", "sysrq-trigger")
_INTERPRETER = INIT_ARGV[:-1]
_MASK = sum(1 << number for number in CAPABILITIES.values())
# Gives up every capability outside of the mask, for good. Source: capabilities(7), prctl(2).
_DROP = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None)
for number in range(64):
    if not {_MASK} >> number & 1:
        libc.prctl(24, number, 0, 0, 0)
libc.prctl(47, 4, 0, 0, 0)
libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)({_MASK}, {_MASK}, 0, 0, 0, 0))
"""
_FILTER_FD = 9  # where a program finds the filter of system calls
# And the filter, for good, unless bubblewrap has loaded it already (prctl 21 asks).
_NO_NEW_PRIVS = f"""
libc.prctl(38, 1, 0, 0, 0)
if libc.prctl(21, 0, 0, 0, 0) != 2:
    steps = os.read({_FILTER_FD}, 1 << 16)
    os.close({_FILTER_FD})
    kept = ctypes.create_string_buffer(steps, len(steps))
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
    if libc.prctl(22, 2, ctypes.byref(Program(len(steps) // 8, ctypes.addressof(kept))), 0, 0) != 0:
        os._exit(125)
"""
_BECOME = (
    _DROP
    + _NO_NEW_PRIVS
    + f"""
sys.path.insert(0, {GUEST!r} + "/guest")
import accounts
user, folder = sys.argv[1:3]
try:
    who = accounts.resolve(user)
    if who.uid or who.gid:
        os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    os.chdir(folder)
except (LookupError, OSError) as error:
    print(error, file=sys.stderr)
    os._exit(126)
os.execve(sys.argv[3], sys.argv[3:], {INIT_ENV!r})
"""
)
_OPEN_FILES = 4096
# What programs of ours that start a sandbox get of this process's variables: none.
BARE_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "OPENSSL_CONF": "/dev/null",
}
# `"$@"` after the limits: a shell is the cheapest program that can set them and then become another.
_LIMITED = (
    f"ulimit -c 0; ulimit -n {_OPEN_FILES}; "
    "ulimit -f {blocks}; "
    '{pids}for group in {groups}; do echo 0 >"$group"; done; exec "$@" {filter_fd}<{filter}'
)
_PIVOT = """
set -e
mkdir -p {root}/proc {root}/dev {root}/tg
mount -n --rbind {root} {root}
cd {root}
mount -n -t proc -o nosuid,nodev,noexec proc proc
for name in {read_only}; do
    [ -e proc/$name ] || continue
    mount -n --bind proc/$name proc/$name
    mount -n -o remount,bind,ro,nosuid,nodev,noexec proc/$name
done
for name in {hidden}; do [ ! -e proc/$name ] || mount -n --bind /dev/null proc/$name; done
mount -n -t tmpfs -o nosuid,mode=755,size=1m tgym dev
mkdir dev/pts dev/shm
for node in null zero full random urandom tty; do : >dev/$node; mount -n --bind /dev/$node dev/$node; done
mount -n -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -n -t tmpfs -o nosuid,nodev,mode=1777,size={shm_mb}m tgym dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -n --bind {tree} tg
mount -n -o remount,bind,ro,nosuid,nodev tg
{net}
hostname sandbox 2>/dev/null || true
exec 3</
pivot_root . .
exec "$@"
"""
# The old root still lies on top of the new one; where it cannot be taken away nothing may start.
_LEAVE_OLD_ROOT = """
import ctypes, os
os.fchdir(3)
if ctypes.CDLL(None).umount2(b".", 2) != 0:
    os._exit(125)
os.close(3)
os.chdir("/")
"""
_BECOME_INIT = f"os.execve(sys.argv[1], sys.argv[1:], {INIT_ENV!r})\n"


Started = subprocess.Popen[bytes] | nursery.Born


class Place(NamedTuple):
    """Where to start something."""

    keeper: Keeper
    tree: Path  # the trusted tree on this machine
    network: str  # "none", "host", or "joined"
    limits: Limits
    groups: Sequence[str] = ()  # cgroup entrances


def init(place: Place, terminal: int, *, network_of: int | None = None) -> Started:
    """Start the trusted init as PID 1 on a terminal, a descriptor that stays the caller's."""
    if place.keeper.bears:
        return _born(place, ["init"], (terminal, terminal, terminal), network_of=network_of)
    command = _limited(place, [*place.keeper.enter(network_of=network_of), *_isolated(place, INIT_ARGV)])
    return subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=BARE_ENV, start_new_session=True
    )


def pack(place: Place, path: str, limit_bytes: int, *, out: int, err: int) -> Started:
    """Start the trusted packer of `path`, see `guest/archive.py`; descriptors stay the caller's."""
    if place.keeper.bears:
        with Path(os.devnull).open("rb") as nothing:
            return _born(place, ["pack", path, str(limit_bytes)], (nothing.fileno(), out, err))
    command = alone_command(place, [f"{GUEST}/guest/archive.py", "pack", path, str(limit_bytes)])
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=BARE_ENV)


def init_pid(started: Started) -> int | None:
    """Return PID 1 as this host sees it, None before it is there or once its parents have ended."""
    if isinstance(started, nursery.Born):
        return started.pid
    pid = started.pid
    for _ in range(2):  # nsenter, then bubblewrap or unshare
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        except OSError:
            return None
        if not children:
            return None
        pid = int(children[0])
    return pid


def _born(
    place: Place, run: list[str], streams: tuple[int, int, int], *, network_of: int | None = None
) -> nursery.Born:
    limits = place.limits
    want: dict[str, Any] = {
        "run": run,
        "keeps": _MASK,
        "network": "joined" if network_of is not None else place.network,
        "rlimits": {
            "RLIMIT_CORE": 0,
            "RLIMIT_NOFILE": _OPEN_FILES,
            "RLIMIT_FSIZE": limits.disk_mb << 20,
        },
        "walls": {
            "root": str(place.keeper.base / "r"),
            "tree": str(place.tree),
            "read_only": _READ_ONLY_PROC,
            "hidden": _HIDDEN_PROC,
            "shm_mb": limits.memory_mb,
            "console": os.ttyname(streams[0]) if os.isatty(streams[0]) else "",
            "loopback": place.network == "none",
        },
    }
    opened: list[int] = []
    try:
        if network_of is not None:
            opened.append(os.open(f"/proc/{network_of}/ns/net", os.O_RDONLY))
        opened += [os.open(group, os.O_WRONLY) for group in place.groups]
        return place.keeper.bear(want, [*streams, *opened])
    except OSError as error:
        raise StartFailed(f"what the sandbox's first process is to join cannot be opened: {error}") from error
    finally:
        for fd in opened:
            os.close(fd)


def alone_command(place: Place, argv: Sequence[str]) -> list[str]:
    """Return the command line of a trusted program in the same root, with processes of its own."""
    return _limited(place, [*place.keeper.enter(), *_isolated(place, [*_INTERPRETER, *argv])])


def helper(
    argv: Sequence[str], *, timeout_s: float, user: str, env: Mapping[str, str], cwd: str
) -> list[str]:
    """Return arguments of the trusted interpreter that run `argv` under the guard, as `user`, in `cwd`."""
    account = "" if os.geteuid() != 0 else user  # an ordinary user has one uid to give
    variables = {"PATH": INIT_ENV["PATH"]} | dict(env)
    return ["-c", _BECOME, account, cwd, *guarded(argv, timeout_s=timeout_s, env=variables)]


def beside_command(place: Place, init: int, argv: Sequence[str]) -> list[str]:
    """Return the command line of a trusted program that joins every namespace of a running PID 1."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    join = ["nsenter", "--target", str(init), *user, "--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/"]
    return _limited(place, [*join, *_INTERPRETER, *argv])


def _limited(place: Place, argv: Sequence[str]) -> list[str]:
    limits = place.limits
    # An ordinary user's processes are counted per user namespace (Linux 5.14 and later), so this is the sandbox's.
    pids = (
        ""
        if os.geteuid() == 0
        else f"ulimit -p {limits.pids + 3} 2>/dev/null || ulimit -u {limits.pids + 3}; "
    )
    script = _LIMITED.format(
        blocks=limits.disk_mb * 2048,
        pids=pids,
        groups=" ".join(f"'{g}'" for g in place.groups),
        filter=f"'{place.keeper.filter}'",
        filter_fd=_FILTER_FD,
    )
    return ["sh", "-c", script, "tgym", *argv]


def _isolated(place: Place, argv: Sequence[str]) -> list[str]:
    return _bubblewrap(place, argv) if shutil.which("bwrap") else _unshare(place, argv)


def _bubblewrap(place: Place, argv: Sequence[str]) -> list[str]:
    root = str(place.keeper.base / "r")
    shm = ["--size", str(place.limits.memory_mb << 20)] if "--size" in _bubblewrap_help() else []
    line = [
        "bwrap",
        "--bind",
        root,
        "/",
        "--ro-bind",
        str(place.tree),
        GUEST,
        "--proc",
        "/proc",
        "--dev",
        "/dev",
    ]
    # Asked for in so many words: bubblewrap takes /proc/sys for read-only already, for its folder's mode says so.
    for name in _READ_ONLY_PROC:
        line += ["--ro-bind-try" if name != "sys" else "--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in _HIDDEN_PROC:
        line += ["--ro-bind", "/dev/null", f"/proc/{name}"] if Path(f"/proc/{name}").exists() else []
    line += [
        "--perms",
        "1777",
        *shm,
        "--tmpfs",
        "/dev/shm",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
    ]
    line += ["--unshare-cgroup-try", "--hostname", "sandbox", "--as-pid-1", "--die-with-parent"]
    line += ["--unshare-net"] if place.network == "none" else []
    line += ["--chdir", "/", "--clearenv", "--cap-drop", "ALL"]
    line += ["--seccomp", str(_FILTER_FD)]
    for name in CAPABILITIES:
        line += ["--cap-add", name]
    for name, value in INIT_ENV.items():
        line += ["--setenv", name, value]
    return [*line, "--", *argv]


@functools.cache
def _bubblewrap_help() -> str:
    return subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False).stdout


def _unshare(place: Place, argv: Sequence[str]) -> list[str]:
    net = ["--net"] if place.network == "none" else []
    script = _PIVOT.format(
        root=f"'{place.keeper.base}/r'",
        tree=f"'{place.tree}'",
        shm_mb=place.limits.memory_mb,
        read_only=" ".join(_READ_ONLY_PROC),
        hidden=" ".join(_HIDDEN_PROC),
        net="ip link set lo up 2>/dev/null || true" if net else "",
    )
    become = _LEAVE_OLD_ROOT + _DROP + _NO_NEW_PRIVS + _BECOME_INIT
    spaces = ["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup", *net]
    return ["unshare", *spaces, "sh", "-c", script, "tgym", *_INTERPRETER, "-c", become, *argv]
