"""Every speed question of one runtime, asked in one sitting."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import docker
from pexpect.spawnbase import SpawnBase

from benchmarks.speed import (
    branching,
    floors,
    idle_memory,
    sandbox_start,
    step_latency,
    terminal_throughput,
    verification,
)
from benchmarks.speed.clock import Measured, save
from benchmarks.speed.subjects import TASK, timed
from terminal_gym.errors import UnknownName
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.tasks.catalogue import find_task

Tables = dict[str, dict[str, Measured]]


def measure(runtime: str, *, repeats: int, say: Callable[[str], None]) -> Tables:
    """Return one table per question.

    Raises:
        UnknownName: There is no floor for this runtime.
        SandboxError: The runtime does not work here, or its image cannot be made.
    """
    task = find_task(TASK)
    opened = open_runtime(runtime)
    try:
        opened.check()
        opened.build(task.image)
    finally:
        opened.close()
    floor = timed(_floor(runtime, task.image.name))
    tables: Tables = {}
    say(f"{runtime}: reset")
    tables["reset to the first prompt"] = sandbox_start.measure(runtime, floor, repeats=repeats)
    say(f"{runtime}: step")
    tables["one step of `echo hi`"] = step_latency.measure(runtime, floor, repeats=10 * repeats)
    say(f"{runtime}: output")
    tables["10 MB of output"] = terminal_throughput.measure(runtime, floor, repeats=max(3, repeats // 3))
    say(f"{runtime}: verification")
    tables["from the stop signal to the verdict, two tests"] = verification.measure(runtime, repeats=repeats)
    say(f"{runtime}: branching")
    tables["going on from the middle of an episode"] = branching.measure(runtime, repeats=repeats)
    say(f"{runtime}: memory")
    tables["our memory per idle environment"] = idle_memory.measure(runtime, environments=16)
    return tables


def write(path: Path, runtime: str, tables: Tables) -> None:
    """Write the raw numbers, replacing `path` whole."""
    save(path, f"What does {runtime} cost beside its bare floor?", tables)


def _floor(runtime: str, image: str) -> Callable[[], AbstractContextManager[SpawnBase[bytes]]]:
    if runtime == "docker":
        return functools.partial(floors.engine, docker.APIClient(), image)
    if runtime == "namespace":
        return floors.namespaces
    raise UnknownName("runtime with a measured floor", runtime, known=["docker", "namespace"])
