"""What a contender's process says to the suite: a line of JSON for each measurement. Standard library only.

A contender is an object with `reset`, `step`, `verify`, `close`, and where it has them `terminus` (a step as
Terminus-2 makes it), `drop` (an end without the grace that its own `close` gives) and `ahead` (what may be made before
a reset without its clock running). They may be plain functions or coroutines; plain ones run on threads where many
episodes are at once, coroutines on one loop.

    suite:      {"ask": "life", "steps": 5}
    contender:  {"work": "reset", "ms": 203.1}  …  {"done": "life"}
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from benchmarks.speed.peers import work

_FAILED: set[str] = set()
Say = Callable[[dict[str, Any]], None]


class WrongAnswer(Exception):
    """The contender did not do the work: what it gave back is not what the command prints."""


def serve(contender: Any) -> None:
    """Answer the suite on standard output until its lines end; whatever else is printed goes to standard error."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    say = _sayer(told)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    say({"done": "ready"})
    try:
        for line in sys.stdin:
            asked = json.loads(line)
            kind = asked.pop("ask")
            try:
                loop.run_until_complete(_ANSWERS[kind](contender, say, **asked))
            except Exception as error:
                say({"work": kind, "error": _short(error)})
            say({"done": kind})
        if hasattr(contender, "leave"):
            loop.run_until_complete(_call(contender.leave))
    finally:
        loop.close()


async def _life(contender: Any, say: Say, *, steps: int) -> None:
    """Two environments: one from reset to verdict, each kind of step `steps` times; one closed while it lives."""
    one = _Life(contender, say)
    await _call(getattr(contender, "ahead", _nothing))
    await one.timed("reset", contender.reset, keep=True)
    try:
        for _ in range(steps):
            await one.timed("step", contender.step, one.kept, work.STEP, right=lambda out: work.SAID in out)
        if hasattr(contender, "terminus"):
            for _ in range(steps):
                await one.timed("terminus", contender.terminus, one.kept, work.STEP)
        for megabytes in (1, 10):
            name, command = f"{megabytes} MB", work.flood(megabytes)
            await one.timed(name, contender.step, one.kept, command, right=work.flooded)
        if hasattr(contender, "verify"):
            await _call(contender.step, one.kept, work.SOLUTION)
            await one.timed("verify", contender.verify, one.kept, right=lambda passed: passed is True)
    finally:
        await _call(getattr(contender, "drop", contender.close), one.kept)
    await _call(getattr(contender, "ahead", _nothing))
    await one.timed("reset", contender.reset, keep=True)
    await _call(contender.step, one.kept, work.STEP)
    await one.timed("close", contender.close, one.kept)


def _nothing() -> None:
    """Nothing is made ahead."""


class _Life:
    def __init__(self, contender: Any, say: Say):
        self._say = say
        self.kept: Any = None

    async def timed(
        self, name: str, work: Any, *args: Any, right: Callable[[Any], bool] | None = None, keep: bool = False
    ) -> None:
        """Do the work and say how long it took, or why it failed; only a reset's failure ends the life.

        What failed once is not tried again: a command that never returns would cost its whole limit in every turn.
        """
        if name in _FAILED:
            return
        began = time.perf_counter()
        try:
            out = await _call(work, *args)
            took = (time.perf_counter() - began) * 1e3
            if right is not None and not right(out):
                raise WrongAnswer(f"gave back {str(out)[-200:]!r}")
        except Exception as error:
            if keep:
                raise
            _FAILED.add(name)
            self._say({"work": name, "error": _short(error)})
            return
        if keep:
            self.kept = out
        self._say({"work": name, "ms": took})


async def _episodes(contender: Any, say: Say, *, count: int, at_once: int, steps: int) -> None:
    """Whole episodes, so many at once: reset, steps, verify, end. A failure is counted, and its reason said once."""
    took: list[float] = []
    reasons: dict[str, int] = {}
    end = getattr(contender, "drop", contender.close)

    async def episode() -> None:
        handle = await _call(contender.reset)
        try:
            for _ in range(steps):
                began = time.perf_counter()
                out = await _call(contender.step, handle, work.STEP)
                took.append((time.perf_counter() - began) * 1e3)
                if work.SAID not in out:
                    raise WrongAnswer(f"gave back {out[-200:]!r}")
            await _call(contender.step, handle, work.SOLUTION)
            if await _call(contender.verify, handle) is not True:
                raise WrongAnswer("the solution did not pass")
        finally:
            await _call(end, handle)

    async def guarded() -> None:
        try:
            await episode()
        except Exception as error:
            reason = _short(error)
            reasons[reason] = reasons.get(reason, 0) + 1

    began, cpu = time.perf_counter(), _cpu_s()
    if inspect.iscoroutinefunction(contender.reset):
        gate = asyncio.Semaphore(at_once)

        async def gated() -> None:
            async with gate:
                await guarded()

        await asyncio.gather(*(gated() for _ in range(count)))
    else:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: asyncio.run(guarded()), range(count)))
    say(
        {
            "work": "episodes",
            "seconds": time.perf_counter() - began,
            "passed": count - sum(reasons.values()),
            "failed": sum(reasons.values()),
            "reasons": reasons,
            "own_cpu_s": _cpu_s() - cpu,
            "step_ms": took,
        }
    )


async def _memory(contender: Any, say: Say, *, count: int) -> None:
    """How much this process grows by each environment that waits at its first prompt, after a first one."""
    held = [await _call(contender.reset)]
    try:
        await _call(contender.step, held[0], work.STEP)
        gc.collect()
        before = _resident_mib()
        for _ in range(count):
            held.append(await _call(contender.reset))
            await _call(contender.step, held[-1], work.STEP)
        gc.collect()
        say({"work": "memory", "mib": (_resident_mib() - before) / count})
    finally:
        for handle in held:
            await _call(getattr(contender, "drop", contender.close), handle)


_ANSWERS: dict[str, Callable[..., Awaitable[None]]] = {
    "life": _life,
    "episodes": _episodes,
    "memory": _memory,
}


async def _call(function: Callable[..., Any], *args: Any) -> Any:
    out = function(*args)
    return await out if inspect.isawaitable(out) else out


def _sayer(told: TextIO) -> Say:
    def say(line: dict[str, Any]) -> None:
        told.write(json.dumps(line) + "\n")
        told.flush()

    return say


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip()[:400]


def _cpu_s() -> float:
    """CPU seconds of this process and of its ended children."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20
