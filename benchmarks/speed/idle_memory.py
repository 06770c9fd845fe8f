"""How many MiB of our process an idle environment takes, at its first prompt."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from benchmarks.speed.clock import Measured
from benchmarks.speed.subjects import environment


def measure(runtime: str, *, environments: int) -> dict[str, Measured]:
    """Return resident memory per environment, after a first one has loaded the code."""
    first = environment(runtime)
    held = [environment(runtime) for _ in range(environments)]
    try:
        first.reset()
        before = _resident_mib()
        for env in held:
            env.reset()
        gc.collect()
        grown = (_resident_mib() - before) / environments
    finally:
        for env in [first, *held]:
            env.close()
    return {"environment": Measured("environment", "MiB", (grown,))}


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20
