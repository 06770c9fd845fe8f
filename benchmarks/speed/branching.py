"""What does going on from the middle of an episode cost, beside a cold reset: a snapshot, and a branch's first prompt?

With little written, and with 50 MB in 954 files, as after an installation.
"""

from __future__ import annotations

from benchmarks.speed.clock import Measured, Turn, interleave, milliseconds
from benchmarks.speed.subjects import environment
from terminal_gym.env import TerminalEnv

_MUCH = "mkdir /much; yes | head -c 50000000 | split -a 4 -b 52429 - /much/; echo rea''dy\n"


def measure(runtime: str, *, repeats: int) -> dict[str, Measured]:
    """Return milliseconds of a cold reset, of a snapshot, and of a branch's reset, interleaved."""
    parents = {"little": environment(runtime), "50 MB": environment(runtime, step_s=300.0)}
    try:
        for written, env in parents.items():
            env.reset()
            shown = env.step(_MUCH if written == "50 MB" else "echo some > /some; echo rea''dy\n")[0]
            assert "ready" in shown["output"], "nothing was written"
        contenders: dict[str, Turn] = {"cold reset": lambda: _cold(runtime)}
        for written, env in parents.items():
            contenders |= {
                f"snapshot, {written} written": lambda env=env: milliseconds(lambda: env.snapshot().close()),  # type: ignore[misc]
                f"branch, {written} written": lambda env=env: _branch(env),  # type: ignore[misc]
            }
        return interleave(contenders, unit="ms", repeats=repeats, warm_up=1)
    finally:
        for env in parents.values():
            env.close()


def _cold(runtime: str) -> float:
    env = environment(runtime)
    try:
        return milliseconds(env.reset)
    finally:
        env.close()


def _branch(env: TerminalEnv) -> float:
    (branch,) = env.branch()
    try:
        return milliseconds(branch.reset)
    finally:
        branch.close()
