"""How many milliseconds to a first prompt, cold, per runtime, beside the bare floor of the same machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from benchmarks.speed.clock import Measured, interleave, milliseconds
from benchmarks.speed.subjects import Floor, environment


def measure(
    runtime: str, floor: Callable[[], AbstractContextManager[Floor]], *, repeats: int
) -> dict[str, Measured]:
    """Return floor and ours: reset up to the first prompt, closing not counted."""

    def bare() -> float:
        with floor() as opened:
            return opened.opened_ms

    def ours() -> float:
        env = environment(runtime)
        try:
            return milliseconds(env.reset)
        finally:
            env.close()

    return interleave({"floor": bare, "reset": ours}, unit="ms", repeats=repeats)
