"""Owner leases: who started a thing, written on it, so that any later process can tell whether that owner is dead.

A lease is `host:boot:pid:start`: the machine, its boot, the process, and the tick the process started at (process
ids are used again, ticks are not). A lease of another machine is never judged dead from here.
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
    pid: int
    start: int  # clock ticks after boot

    def __str__(self) -> str:
        return f"{self.host}:{self.boot}:{self.pid}:{self.start}"

    @classmethod
    def parse(cls, lease: str) -> Self | None:
        """Return the owner that a lease names, None where the text is not a lease."""
        parts = lease.split(":")
        if len(parts) != 4 or not (parts[2].isdigit() and parts[3].isdigit()):
            return None
        return cls(parts[0], parts[1], int(parts[2]), int(parts[3]))

    def is_dead(self) -> bool:
        """Return True only where this machine can know it."""
        if self.host != _host():
            return False
        return self.boot != _boot() or _start_of(self.pid) != self.start


def current_owner() -> Owner:
    """Return the lease of this process; asked anew after a fork."""
    return _owner_of(os.getpid())


def is_orphan(lease: str | None) -> bool:
    """Return True where `lease` names an owner that is known to be dead."""
    owner = Owner.parse(lease or "")
    return owner is not None and owner.is_dead()


@functools.lru_cache(maxsize=2)
def _owner_of(pid: int) -> Owner:
    return Owner(_host(), _boot(), pid, _start_of(pid) or 0)


def _start_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])  # field 22; the name before it may hold spaces


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@functools.cache
def _host() -> str:
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()[:32] or platform.node()
    except OSError:
        return platform.node()
