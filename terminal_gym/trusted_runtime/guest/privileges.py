"""What the judge's child may still do: no dumps, another uid, one capability, a read-only place for the tests.

Source: capabilities(7), prctl(2), mount(2).
"""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

DAC_OVERRIDE, SETPCAP, SYS_ADMIN = 1, 8, 21  # capability numbers
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS = 4, 8, 28, 38
_NOROOT_LOCKED = 0b11  # SECBIT_NOROOT and its lock: an exec as uid 0 gains nothing
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class Place(NamedTuple):
    """A folder for the tests."""

    path: str
    mounted: bool  # a tmpfs of its own, which can be made read-only


def hide() -> None:
    """Deny every other process our memory, descriptors and environment."""
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def holds(capability: int) -> bool:
    """Whether the calling process may use it."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    return _libc.capget(header, data) == 0 and bool(data[3 * (capability // 32)] >> capability % 32 & 1)


def drop(uid: int) -> bool:
    """Become `uid`, for good, with CAP_DAC_OVERRIDE alone, which is lost at the next exec; say whether it worked.

    So the caller goes on reading the tests, and whatever it spawns is a nobody. In a user namespace with one
    mapped uid there is no other uid to become: then uid 0 is made to gain nothing at an exec, as far as we may.
    """
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    keeps = holds(DAC_OVERRIDE)
    dropped = _switch(uid)
    if not dropped and holds(SETPCAP):
        _libc.prctl(_PR_SET_SECUREBITS, _NOROOT_LOCKED, 0, 0, 0)
    only = 1 << DAC_OVERRIDE if keeps else 0
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _libc.capset(header, (ctypes.c_uint32 * 6)(only, only, 0, 0, 0, 0))
    hide()  # a change of uid makes us dumpable again
    return dropped


def _switch(uid: int) -> bool:
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        return False
    return True


def make_place(name: str, size: int) -> Place:
    """Make the folder `name` for `size` bytes where tested code cannot write: 0700, on a tmpfs where there is one.

    Raises:
        OSError: No file system takes it.
    """
    path = f"/{name}"
    try:
        os.mkdir(path, 0o700)
    except OSError:
        path = f"/tmp/{name}"
        os.mkdir(path, 0o700)
    if holds(SYS_ADMIN) and _mount(path, _MS_NOSUID | _MS_NODEV, "mode=0700"):
        return Place(path, True)
    if _fits_in_shared_memory(size):
        try:
            os.mkdir(f"/dev/shm/{name}", 0o700)
        except OSError:
            return Place(path, False)
        os.rmdir(path)
        return Place(f"/dev/shm/{name}", False)
    return Place(path, False)


def seal(place: Place) -> None:
    """Make the folder read-only where it is a mount of its own, and closed to whoever lacks CAP_DAC_OVERRIDE.

    Closed even to its owner: where no other uid can be taken, what the tests spawn is the owner, and cannot change
    the mode of what is read-only.
    """
    if holds(DAC_OVERRIDE):
        os.chmod(place.path, 0)
    if place.mounted:
        _mount(place.path, _MS_NOSUID | _MS_NODEV | _MS_RDONLY | _MS_REMOUNT, "")


def _mount(path: str, flags: int, options: str) -> bool:
    return bool(_libc.mount(b"tmpfs", path.encode(), b"tmpfs", ctypes.c_ulong(flags), options.encode()) == 0)


def _fits_in_shared_memory(size: int) -> bool:
    """Whether /dev/shm is a fresh tmpfs of this boot, with room to spare."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            if not any(line.split()[1:3] == ["/dev/shm", "tmpfs"] for line in mounts):
                return False
        room = os.statvfs("/dev/shm")
    except OSError:
        return False
    return room.f_bavail * room.f_frsize > 2 * size
