"""What is measured: a bare shell with its opening time, and one of our environments on the benchmark's task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pexpect.spawnbase import SpawnBase

from benchmarks.speed.floors import PROMPT
from terminal_gym.env import TerminalEnv

TASK = Path(__file__).with_name("task")


@dataclass(frozen=True)
class Floor:
    """A bare shell at its first prompt."""

    stream: SpawnBase[bytes]
    opened_ms: float

    def line(self, command: bytes, *, at_least: int = 0) -> None:
        """Type one line and read until the prompt is back; what came must have `at_least` so many bytes."""
        self.stream.write(command + b"\n")  # type: ignore[attr-defined]  # both pexpect classes have it, their base does not
        self.stream.expect_exact(PROMPT)
        assert self.stream.before is not None
        assert len(self.stream.before) >= at_least, "the floor did not do the work"


def timed(
    floor: Callable[[], AbstractContextManager[SpawnBase[bytes]]],
) -> Callable[[], AbstractContextManager[Floor]]:
    """Return `floor` as a subject that knows how long its opening took."""

    @contextmanager
    def opened() -> Iterator[Floor]:
        began = time.perf_counter()
        with floor() as stream:
            yield Floor(stream, (time.perf_counter() - began) * 1e3)

    return opened


def environment(runtime: str, *, step_s: float = 30.0, judge_ahead: bool = False) -> TerminalEnv:
    """Return an environment on the benchmark's task, not reset yet."""
    return TerminalEnv(TASK, runtime=runtime, step_s=step_s, judge_ahead=judge_ahead)
