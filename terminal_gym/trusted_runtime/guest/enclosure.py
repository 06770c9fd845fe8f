"""The mounts of an embedded sandbox, and its walls, built by the process that is to live in it.

The caller of `enclose` is PID 1 of a new process namespace, in mount, host name and IPC namespaces of its own, with
every right. What is built is what bubblewrap builds for the same sandbox, and /sys: a root without set-uid programs and
devices, a /proc of its own with this machine's settings read-only or hidden, /sys read-only, a small /dev, the trusted
tree read-only at /tg.
Then it gives up every capability but those it is told to keep, and takes the filter of system calls; neither can be
undone.

Source: pivot_root(2), mount_setattr(2), capabilities(7), seccomp(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
import struct
import subprocess
from typing import TYPE_CHECKING

from terminal_gym.trusted_runtime.guest import privileges

if TYPE_CHECKING:
    from typing import Any

_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442  # the same on every architecture
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 22, 24, 38, 47
_CAPABILITY_VERSION_3 = 0x20080522
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "core": "/proc/kcore"} | {
    name: f"/proc/self/fd/{number}" for number, name in enumerate(("stdin", "stdout", "stderr"))
}

_libc = ctypes.CDLL(None, use_errno=True)


def enclose(walls: dict[str, Any]) -> None:
    """Make `walls["root"]` our root, with nothing of the outside left below it.

    Args:
        walls: root and tree (paths as they are seen now), read_only and hidden (names below /proc), shm_mb, console
            (path of the terminal to show as /dev/console, "" for none), loopback (whether to bring it up).

    Raises:
        OSError: The kernel refused; the message says what.
    """
    root = walls["root"]
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount(root, root, None, _BIND | _REC)
    os.chdir(root)
    _set_attributes(".", _NOSUID | _NODEV)
    for name in ("proc", "sys", "dev", "tg"):
        _make_folder(name)
    _make_sys()
    _make_proc(walls["read_only"], walls["hidden"])
    _make_dev(walls["shm_mb"], walls["console"])
    _bind(walls["tree"], "tg", _RDONLY | _NOSUID | _NODEV)
    _sethostname(b"sandbox")
    if walls["loopback"]:
        _bring_up(b"lo")
    check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    check(_libc.umount2(b".", _DETACH), "umount of the old root")
    os.chdir("/")


def mount_root(want: dict[str, Any]) -> None:
    """Mount a sandbox's root where only the caller sees it, in a mount namespace of its own; and its own /proc.

    Args:
        want: base (where all of it lies; a tmpfs of size_mb, or, for None, the folder itself), copy (a command to run
            first, or []), folders to make, files (path → contents) to write, cwd for relative names in options,
            mounts ([source, target, kind, options]; kind "" for a folder to be shown, read-only).

    Raises:
        OSError: The kernel, or what copies, refused; the message says what.
    """
    _mount(None, "/", None, _REC | _PRIVATE)
    if want["size_mb"] is not None:
        _mount("tgym", want["base"], "tmpfs", 0, f"size={want['size_mb']}m,mode=755")
    if want["copy"]:
        _copy(want["copy"])
    for folder in want["folders"]:
        os.makedirs(folder, exist_ok=True)
    for path, contents in want["files"].items():
        with open(path, "w", encoding="utf-8") as file:
            file.write(contents)
    os.chdir(want["cwd"])
    for source, target, kind, options in want["mounts"]:
        _mount(source, target, kind or None, 0 if kind else _BIND | _REC, options)
        if not kind:
            _set_attributes(target, _RDONLY)
    os.chdir("/")
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)


def _copy(argv: list[str]) -> None:
    ran = subprocess.run(argv, capture_output=True, check=False)
    if ran.returncode != 0:
        raise OSError(f"{argv[0]}: {ran.stderr[-1000:].decode(errors='replace').strip()}")


def give_up(kept: int, program: bytes) -> None:
    """Keep the capabilities of the mask `kept` and no other, for good; load the filter of system calls.

    Raises:
        OSError: The kernel refused.
    """
    privileges.hide()
    for number in range(64):
        if not kept >> number & 1:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # numbers that the kernel has not are refused
    check(_libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0), "clearing ambient capabilities")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    check(_libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)), "capset")
    check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    steps = ctypes.create_string_buffer(program, len(program))
    loaded = _Program(len(program) // 8, ctypes.addressof(steps))
    check(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(loaded), 0, 0), "seccomp")


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]


def _make_proc(read_only: list[str], hidden: list[str]) -> None:
    _mount("proc", "proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    for name in read_only:
        if os.path.exists(f"proc/{name}"):
            _bind(f"proc/{name}", f"proc/{name}", _RDONLY | _NOSUID | _NODEV | _NOEXEC)
    for name in hidden:
        if os.path.exists(f"proc/{name}"):
            _bind("/dev/null", f"proc/{name}", _RDONLY | _NOSUID | _NODEV)


def _make_sys() -> None:
    """Show the machine as the kernel describes it, and of its network what the sandbox's own is."""
    _mount("sysfs", "sys", "sysfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC)
    for name in ("firmware", "devices/virtual/powercap"):  # as Docker hides them
        if os.path.isdir(f"sys/{name}"):
            _mount("tgym", f"sys/{name}", "tmpfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC, "size=4k,mode=555")


def _make_dev(shm_mb: int, console: str) -> None:
    _mount("tgym", "dev", "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m")
    for name in ("pts", "shm"):
        os.mkdir(f"dev/{name}", 0o755)
    shown = [(f"/dev/{name}", name) for name in _NODES] + ([(console, "console")] if console else [])
    for outside, name in shown:
        os.close(os.open(f"dev/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        _bind(outside, f"dev/{name}", _NOSUID)
    _mount("devpts", "dev/pts", "devpts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    _mount("tgym", "dev/shm", "tmpfs", _NOSUID | _NODEV, f"mode=1777,size={shm_mb}m")
    for name, target in _LINKS.items():
        os.symlink(target, f"dev/{name}")


def _make_folder(name: str) -> None:
    """Make sure of a plain folder to mount on: a link in its place could lead what is trusted elsewhere."""
    try:
        os.mkdir(name, 0o755)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(name).st_mode):
            raise NotADirectoryError(f"/{name} of the image is not a folder") from None


def _bring_up(interface: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inet:
        request = bytearray(struct.pack("16sh22x", interface, 0))
        fcntl.ioctl(inet.fileno(), _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("h", request, 16)
        struct.pack_into("h", request, 16, flags | _IFF_UP)
        fcntl.ioctl(inet.fileno(), _SIOCSIFFLAGS, bytes(request))


def _sethostname(name: bytes) -> None:
    check(_libc.sethostname(name, len(name)), "sethostname")


def _set_attributes(path: str, flags: int) -> None:
    """Set mount flags that have the same number as attributes, on a mount and on all below it."""
    wanted = struct.pack("<QQQQ", flags, 0, 0, 0)
    done = _libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, wanted, ctypes.c_size_t(len(wanted))
    )
    check(done, f"mount_setattr of {path}")


def _bind(source: str, target: str, flags: int) -> None:
    _mount(source, target, None, _BIND)
    _mount(None, target, None, _REMOUNT | _BIND | flags)  # the first call knows no flags


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    told = [os.fsencode(word) if word is not None else None for word in (source, target, kind)]
    done = _libc.mount(told[0], told[1], told[2], ctypes.c_ulong(flags), options.encode() or None)
    check(done, f"mount of {target}")


def check(returned: int, what: str) -> None:
    """Raise OSError, with what the kernel says, where a call has not returned 0."""
    if returned != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
