"""How many milliseconds 10 MB of output take through a step, beside reading the same bytes without a screen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from benchmarks.speed.clock import Measured, interleave, milliseconds
from benchmarks.speed.subjects import Floor, environment

MEGABYTES = 10
FLOOD = f"head -c {MEGABYTES * 1_000_000} /dev/zero | tr '\\0' x | fold -w 100"


def measure(
    runtime: str, floor: Callable[[], AbstractContextManager[Floor]], *, repeats: int
) -> dict[str, Measured]:
    """Return floor and ours; ours includes the screen and the text of the observation."""
    env = environment(runtime, step_s=60.0)
    try:
        env.reset()
        with floor() as opened:
            return interleave(
                {
                    "floor": lambda: milliseconds(
                        lambda: opened.line(FLOOD.encode(), at_least=MEGABYTES * 1_000_000)
                    ),
                    "step": lambda: milliseconds(lambda: env.step(FLOOD + "\n")),
                },
                unit="ms",
                repeats=repeats,
                warm_up=1,
            )
    finally:
        env.close()
