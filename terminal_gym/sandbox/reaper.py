"""Owner leases: who started a thing, written on it, so that any later process can tell whether that owner is dead.

A lease is `host:boot:space:pid:start`: the machine, its boot, the process namespace, the process, and the tick it
started at (process ids are used again, ticks are not). A lease of another machine, or of another process or time
namespace such as a container's, is never judged dead from here.
"""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Self

LABEL = "terminal-gym.owner"  # on every container, network and volume; the value is a lease


@dataclass(frozen=True)
class Owner:
    """One process on one boot of one machine."""

    host: str
    boot: str
    space: (
        str  # inodes of process and time namespace: only within them do a process id and a tick say anything
    )
    pid: int
    start: int  # clock ticks after boot

    def __str__(self) -> str:
        return f"{self.host}:{self.boot}:{self.space}:{self.pid}:{self.start}"

    @classmethod
    def parse(cls, lease: str) -> Self | None:
        """Return the owner that a lease names, None where the text is not a lease."""
        parts = lease.split(":")
        if len(parts) != 5 or not (parts[3].isdecimal() and parts[4].isdecimal()):
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[3]), int(parts[4]))

    def is_dead(self) -> bool:
        """Return True only where this machine can know it."""
        if self.host != _host():
            return False
        if self.boot != _boot():
            return True
        return self.space == _space() and _start_of(self.pid) != self.start


def current_owner() -> Owner:
    """Return the lease of this process; asked anew after a fork."""
    return _owner_of(os.getpid())


def is_orphan(lease: str | None) -> bool:
    """Return True where `lease` names an owner that is known to be dead."""
    owner = Owner.parse(lease or "")
    return owner is not None and owner.is_dead()


@functools.lru_cache(maxsize=2)
def _owner_of(pid: int) -> Owner:
    return Owner(_host(), _boot(), _space(), pid, _start_of(pid) or 0)


def _start_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # from field 3 on; the name before it may hold spaces
    return None if fields[0] in "ZX" else int(fields[19])  # a zombie owns nothing any more


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@functools.cache
def _space() -> str:
    spaces = (Path("/proc/self/ns/pid"), Path("/proc/self/ns/time"))  # the latter since Linux 5.6
    return ".".join(str(space.stat().st_ino) for space in spaces if space.exists())


@functools.cache
def _host() -> str:
    """The machine's id and name: clones of one disk image share the former."""
    name = platform.node().replace(":", "-")
    try:
        return f"{Path('/etc/machine-id').read_text(encoding='ascii').strip()[:32]}-{name}"
    except OSError:
        return name
