"""Terminal-Bench 1.0, 2.0 and 2.1: which tasks a score is about, and what its own rules for a score are.

The three have one loader, because 2.0 and 2.1 share a format; what differs is stated here and nowhere else.

Source: terminal-bench-core 0.1.1 (80 tasks); terminal-bench 2.0 and 2.1 (89 tasks each); terminal-bench 0.2.18, Harbor
0.24.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from terminal_gym.errors import BadSetting, UnknownName
from terminal_gym.rollout.job import Job
from terminal_gym.tasks.task import Task

Version = Literal["1.0", "2.0", "2.1"]


@dataclass(frozen=True)
class Suite:
    """One version of the benchmark."""

    version: Version
    marker: str  # the file that every task folder of it has
    namespace: str  # of its ids
    size: int  # tasks in the released set
    trials: int  # at each task, which its leaderboard asks for

    @property
    def name(self) -> str:
        return f"terminal-bench@{self.version}"


SUITES: Mapping[str, Suite] = {
    "1.0": Suite("1.0", "task.yaml", "TerminalBench1", 80, 5),
    "2.0": Suite("2.0", "task.toml", "TerminalBench2", 89, 5),
    "2.1": Suite("2.1", "task.toml", "TerminalBench2", 89, 5),
}


def suite(version: str) -> Suite:
    """Return the suite of that version.

    Raises:
        UnknownName: There is none.
    """
    if version not in SUITES:
        raise UnknownName("Terminal-Bench version", version, known=SUITES)
    return SUITES[version]


def folders(
    root: Path, of: Suite, *, only: Sequence[str] = (), without: Sequence[str] = ()
) -> tuple[Path, ...]:
    """Return the task folders directly in `root`, by name.

    Args:
        root: A folder of task folders, or one task folder.
        of: Whose format they must have.
        only: Shell patterns of names; empty: all.
        without: Shell patterns of names to leave out, applied after `only`.

    Raises:
        BadSetting: There is no task of this format, or a pattern matches none.
    """
    if not root.is_dir():
        raise BadSetting(f"{root} is no folder. Name the folder that holds the task folders.")
    root = root.resolve()
    found = [root] if (root / of.marker).is_file() else sorted(p.parent for p in root.glob(f"*/{of.marker}"))
    if not found:
        other = next((s for s in SUITES.values() if list(root.glob(f"*/{s.marker}"))), None)
        advice = f"It holds tasks of version {other.version}." if other else "Name a folder of task folders."
        raise BadSetting(f"{root} holds no folder with a {of.marker}, as {of.name} has. {advice}")
    for pattern in (*only, *without):
        if not any(fnmatch.fnmatchcase(path.name, pattern) for path in found):
            raise BadSetting(f"No task in {root} is named {pattern!r}.")
    return tuple(
        path
        for path in found
        if (not only or any(fnmatch.fnmatchcase(path.name, pattern) for pattern in only))
        and not any(fnmatch.fnmatchcase(path.name, pattern) for pattern in without)
    )


def digest(hashes: Mapping[str, str]) -> str:
    """Return 64 hex digits that name a set of tasks: by their names and contents, whatever their order or place.

    Args:
        hashes: Reference of a task (an id or a folder) → content hash.
    """
    lines = sorted(f"{name_of(ref)} {known}\n" for ref, known in hashes.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def name_of(ref: str) -> str:
    """Return a task's own name, from its id or its folder."""
    return ref.rstrip("/").rpartition("/")[2]


def budgets(tasks: Mapping[str, Task]) -> str:
    """Return what agents are given, in words: shortest, median and longest."""
    seconds = [task.limits.agent_s for task in tasks.values()]
    low, middle, high = min(seconds), median(seconds), max(seconds)
    return f"{low:g} s each" if low == high else f"{low:g} to {high:g} s, median {middle:g} s"


def labels(of: Suite, job: Job) -> dict[str, str]:
    """Return what a run of this benchmark calls itself."""
    return {"benchmark": of.name, "task_set": digest(job.tasks)}
