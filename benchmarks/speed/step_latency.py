"""How many milliseconds one step of `echo hi` takes, completion known, beside a bare write and wait for the prompt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from benchmarks.speed.clock import Measured, interleave, milliseconds
from benchmarks.speed.subjects import Floor, environment


def measure(
    runtime: str, floor: Callable[[], AbstractContextManager[Floor]], *, repeats: int
) -> dict[str, Measured]:
    """Return floor and ours in one live shell each."""
    env = environment(runtime)
    try:
        env.reset()
        with floor() as opened:
            return interleave(
                {
                    "floor": lambda: milliseconds(lambda: opened.line(b"echo hi")),
                    "step": lambda: milliseconds(lambda: env.step("echo hi\n")),
                },
                unit="ms",
                repeats=repeats,
                warm_up=5,
            )
    finally:
        env.close()
