"""Limits of memory, processes and cores for one sandbox of the embedded runtime, and a way to hold it still: cgroups,
version 1 or 2.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from terminal_gym.tasks.task import Limits

_MOUNT = Path("/sys/fs/cgroup")
_PARENT = "terminal-gym"
_PERIOD_US = 100_000
_EXTRA_PIDS = 3  # our own processes that start the sandbox and wait for it
_REMOVAL_S = 2.0
_FREEZE_S = 2.0
_MEMORY = (  # of version 1 and 2: whether it killed, the most that was used, what may be used
    ("memory.oom_control", "memory.max_usage_in_bytes", "memory.limit_in_bytes"),
    ("memory.events", "memory.peak", "memory.max"),
)
_CONTROLLERS = (
    "memory",
    "pids",
    "cpu",
    "freezer",
)  # freezer: version 1 only, the other has it in every group


class Cgroup:
    """The groups of one sandbox; `close` removes them once nothing runs in them."""

    def __init__(self, name: str, limits: Limits):
        self._folders: list[Path] = []
        for controller in _CONTROLLERS:
            if (parent := _parent(controller)) is not None and (parent / name) not in self._folders:
                (parent / name).mkdir(exist_ok=True)
                self._folders.append(parent / name)
        for file, value in _settings(limits):
            for folder in self._folders:
                if (folder / file).exists():
                    with contextlib.suppress(OSError):  # swap accounting may be off
                        (folder / file).write_text(value, encoding="ascii")

    @property
    def entrances(self) -> list[str]:
        """Files; a process of one thread that writes 0 into each of them is inside."""
        # A thread that moves itself alone does without the lock of version 1, which waits 15 ms for all processors.
        return [
            str(next(path for path in (folder / "tasks", folder / "cgroup.procs") if path.exists()))
            for folder in self._folders
        ]

    @contextlib.contextmanager
    def frozen(self) -> Iterator[bool]:
        """Hold every process in the group still for the block; yields whether the kernel did that."""
        still = any(_freeze(folder) for folder in self._folders)
        try:
            yield still
        finally:
            for folder in self._folders:
                thaw(folder)

    def killed_for_memory(self) -> bool:
        """Whether the kernel killed in the group, and its own limit had been reached: not the whole machine's want."""
        return any(
            _counter(folder / told, "oom_kill") > 0
            and _counter(folder / most) >= _counter(folder / limit) > 0
            for folder in self._folders
            for told, most, limit in _MEMORY
        )

    def close(self) -> None:
        """Remove the groups. Safe to call again."""
        for folder in self._folders:
            remove(folder)
        self._folders = []


def _counter(file: Path, name: str = "") -> int:
    """The number after `name` in a file of the kernel's, or the only one; 0 where there is none."""
    try:
        words = file.read_text(encoding="ascii").split()
        return int(words[words.index(name) + 1 if name else 0])
    except (OSError, ValueError, LookupError):
        return 0


def remove(folder: Path) -> None:
    """Remove one empty group; a process that has just ended may still be in it for a moment."""
    until = time.monotonic() + _REMOVAL_S
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > until:
                return
            time.sleep(0.001)


def remove_named(name: str) -> None:
    """Remove what another process made under that name."""
    for controller in _CONTROLLERS:
        if (parent := _parent(controller)) is not None:
            thaw(parent / name)  # version 1: what is frozen does not die, however it is killed
            remove(parent / name)


def _freeze(folder: Path) -> bool:
    """Ask for it and wait until it is so; False where this group cannot, or does not in time."""
    for file, word, told, said in (
        ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
        ("cgroup.freeze", "1", "cgroup.events", "frozen 1"),
    ):
        if (folder / file).exists():
            until = time.monotonic() + _FREEZE_S
            with contextlib.suppress(OSError):
                (folder / file).write_text(word, encoding="ascii")
                while time.monotonic() < until:
                    if said in (folder / told).read_text(encoding="ascii"):
                        return True
                    time.sleep(0.0005)
    return False


def thaw(folder: Path) -> None:
    """Let what was held still in a group go on."""
    for file, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        if (folder / file).exists():
            with contextlib.suppress(OSError):
                (folder / file).write_text(word, encoding="ascii")


def missing() -> tuple[str, ...]:
    """Return the fields of Limits that no group enforces here."""
    fields = {"memory": "memory_mb", "pids": "pids", "cpu": "cpus"}
    return tuple(field for controller, field in fields.items() if _parent(controller) is None)


def _settings(limits: Limits) -> list[tuple[str, str]]:
    # What is written to the tmpfs counts as memory; as much again is allowed for it, so that an honest program
    # within both limits is not killed.
    memory = str((limits.memory_mb + min(limits.disk_mb, limits.memory_mb)) * 1024 * 1024)
    quota = str(max(1000, int(limits.cpus * _PERIOD_US)))
    return [
        ("memory.limit_in_bytes", memory),
        ("memory.memsw.limit_in_bytes", memory),
        ("memory.max", memory),
        ("memory.swap.max", "0"),
        ("pids.max", str(limits.pids + _EXTRA_PIDS)),
        ("cpu.cfs_period_us", str(_PERIOD_US)),
        ("cpu.cfs_quota_us", quota),
        ("cpu.max", f"{quota} {_PERIOD_US}"),
    ]


@functools.cache
def _parent(controller: str) -> Path | None:
    """Return the folder that our groups lie in, None where this process may not make groups."""
    if os.geteuid() != 0:
        return None
    try:
        if (_MOUNT / "cgroup.controllers").exists():
            return _parent_v2(controller)
        if not (_MOUNT / controller / "cgroup.procs").exists():
            return None
        folder = _MOUNT / controller / _PARENT
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return folder


def _parent_v2(controller: str) -> Path | None:
    if controller not in (_MOUNT / "cgroup.controllers").read_text("ascii").split():
        return None
    (_MOUNT / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
    folder = _MOUNT / _PARENT
    folder.mkdir(exist_ok=True)
    (folder / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
    return folder
