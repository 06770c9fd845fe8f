"""Everyone does the same work, in turns; then whole episodes, many at once, in turns again.

One turn of a contender is a whole life of an environment, so neighbouring turns of two contenders lie seconds apart,
and a ratio is taken turn by turn. A contender that fails leaves the rest alone: its reason is kept beside its numbers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed.clock import machine_facts
from benchmarks.speed.peers.driver import Driver, driven
from benchmarks.speed.peers.places import Absent

WORKS = ("reset", "step", "terminus", "1 MB", "10 MB", "verify", "close")
_LIFE_S = 180.0  # of silence, within one life
_EPISODES_S = 1200.0
Maker = Callable[[], Sequence[str]]  # makes what a contender needs; returns the command that serves it
Say = Callable[[str], None]


@dataclass
class Found:
    """What one contender did: milliseconds by kind of work, a list for each turn; and why it did not do the rest."""

    turns: dict[str, list[list[float]]] = field(default_factory=dict)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    memory_mib: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    judged: bool = False  # it gave a verdict at least once

    def values(self, work: str) -> list[float]:
        """Every measurement of one kind of work."""
        return [value for turn in self.turns.get(work, []) for value in turn]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int = 5  # lives that count, after one that does not
    steps: int = 5  # of each kind, in one life
    at_once: tuple[int, ...] = (8,)
    episodes: int = 2  # for each of those at once, in one turn
    at_least: int = 8  # episodes in one turn: of one or two at once, a few would say little
    turns: int = 2  # of episodes
    steps_an_episode: int = 20
    memory: int = 8  # environments


def compare(
    contenders: Mapping[str, Maker],
    plan: Plan,
    *,
    say: Say,
    keep: Callable[[Mapping[str, Found]], None] = lambda found: None,
) -> dict[str, Found]:
    """Return what every contender did; never raises for one that fails.

    Args:
        contenders: By name, in the order of their turns.
        plan: How much.
        say: Told what is going on.
        keep: Given what was found so far after each round of turns, so that a run that is cut short is not lost.
    """
    found = {name: Found() for name in contenders}
    with ExitStack() as stack:
        alive: dict[str, Driver] = {}
        for name, maker in contenders.items():
            say(f"{name}: started")
            try:
                alive[name] = stack.enter_context(driven(maker()))
            except Absent as reason:
                found[name].reasons["start"] = str(reason)
                say(f"{name}: {reason}")
        # First: a process that has served many has room left that growth would hide in.
        for name in list(alive):
            say(f"{name}: memory")
            with _kept(found[name], "memory", alive, name):
                told = alive[name].ask("memory", within_s=_LIFE_S * 2, count=plan.memory)
                _keep_reasons(found[name], told)
                found[name].memory_mib = next((one["mib"] for one in told if "mib" in one), None)
        for turn in range(plan.repeats + 1):
            for name in list(alive):
                say(f"{name}: turn {turn} of {plan.repeats}" + (", warm-up" if not turn else ""))
                with _kept(found[name], "life", alive, name):
                    told = alive[name].ask("life", within_s=_LIFE_S, steps=plan.steps)
                    _keep_life(found[name], told, counts=turn > 0)
            keep(found)
        for at_once in plan.at_once:
            for turn in range(plan.turns):
                for name in list(alive):
                    if _cannot(found[name]):
                        continue
                    say(f"{name}: {at_once} episodes at once, turn {turn + 1} of {plan.turns}")
                    with _kept(found[name], f"{at_once} at once", alive, name):
                        found[name].episodes.append(_episodes(alive[name], at_once, plan))
                keep(found)
    return found


class _kept:
    """Keeps the reason of a contender that is gone, and leaves it out from then on."""

    def __init__(self, found: Found, what: str, alive: dict[str, Driver], name: str):
        self._found, self._what, self._alive, self._name = found, what, alive, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if not isinstance(error, Absent):
            return False
        self._found.reasons[self._what] = str(error)
        del self._alive[self._name]
        return True


def _keep_reasons(found: Found, told: Sequence[Mapping[str, Any]]) -> None:
    for one in told:
        if "error" in one:
            found.reasons[one["work"]] = one["error"]


def _keep_life(found: Found, told: Sequence[Mapping[str, Any]], *, counts: bool) -> None:
    by_work: dict[str, list[float]] = {}
    _keep_reasons(found, told)
    for one in told:
        if "error" in one:
            continue
        found.judged |= one["work"] == "verify"
        if counts:
            by_work.setdefault(one["work"], []).append(one["ms"])
    for work, values in by_work.items():
        found.turns.setdefault(work, []).append(values)


def _cannot(found: Found) -> bool:
    """Whether it has no episode to offer: it never gave a verdict, even where that did not count."""
    return not found.judged


def _episodes(driver: Driver, at_once: int, plan: Plan) -> dict[str, Any]:
    count = max(at_once * plan.episodes, plan.at_least)
    before, began = busy_s(), time.monotonic()
    told = driver.ask(
        "episodes", within_s=_EPISODES_S, count=count, at_once=at_once, steps=plan.steps_an_episode
    )
    took, spent = time.monotonic() - began, busy_s() - before
    one = next((line for line in told if "seconds" in line), {})
    reason = next((line["error"] for line in told if "error" in line), "")
    return {
        "at_once": at_once,
        "count": count,
        "passed": one.get("passed", 0),
        "failed": one.get("failed", count),
        "reasons": one.get("reasons", {reason: count} if reason else {}),
        "seconds": one.get("seconds", took),
        "machine_cpu_s": spent,
        "own_cpu_s": one.get("own_cpu_s"),
        "step_ms_median": statistics.median(one["step_ms"]) if one.get("step_ms") else None,
    }


def busy_s() -> float:
    """Return how many CPU seconds this machine has worked since it started, all processes together.

    The only figure that holds everything an episode costs: the contender, the Engine and its shims, the kernel's work
    for them, and what ran inside. It is the machine's, so it means something on an otherwise quiet one alone.
    """
    user, nice, system, _, _, irq, softirq = (
        int(word) for word in Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / 100  # USER_HZ


def as_json(found: Mapping[str, Found], plan: Plan, versions: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that was measured, for the raw file."""
    return {
        "question": "What does the same work cost us, the bare floors and the peers?",
        "schema": 1,
        "machine": machine_facts(),
        "plan": plan.__dict__,
        "versions": dict(versions),
        "contenders": {name: one.__dict__ for name, one in found.items()},
    }
