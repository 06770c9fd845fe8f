"""How many milliseconds a verdict takes from the stop signal, beside bare pytest in the same sandbox."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.speed.clock import Measured, interleave, milliseconds
from benchmarks.speed.subjects import TASK, environment
from terminal_gym.trusted_runtime.tree import GUEST, INIT_ARGV

_THINKING_S = 1.0  # of an agent, between its first prompt and its last action
_BARE = f"import sys; sys.path.append('{GUEST}/site'); import pytest; sys.exit(pytest.main(sys.argv[1:]))"


def measure(runtime: str, *, repeats: int) -> dict[str, Measured]:
    """Return bare pytest, run as a helper in a live sandbox, and a whole judgement: cold, and by a judge made ahead."""

    def bare() -> float:
        env = environment(runtime)
        try:
            env.reset()
            for path in sorted((Path(TASK) / "tests").glob("*.py")):
                env.step(
                    f"mkdir -p /t && cat > /t/{path.name} <<'EOF_OF_TEST'\n{path.read_text()}\nEOF_OF_TEST\n"
                )
            argv = [*INIT_ARGV[:-1], "-c", _BARE, "-q", "-p", "no:cacheprovider", "/t"]
            sandbox = env.sandbox
            return milliseconds(lambda: sandbox.run(argv, timeout_s=60.0))
        finally:
            env.close()

    def ours(judge_ahead: bool) -> float:
        env = environment(runtime, judge_ahead=judge_ahead)
        try:
            env.reset()
            if judge_ahead:
                time.sleep(_THINKING_S)
            env.step("<submit>")
            assert env.verdict is not None
            return env.verdict.seconds * 1e3
        finally:
            env.close()

    contenders = {
        "floor": bare,
        "verdict": lambda: ours(False),
        "verdict, judge made ahead": lambda: ours(True),
    }
    return interleave(contenders, unit="ms", repeats=repeats)
