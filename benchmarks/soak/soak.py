"""The soak: thousands of rollouts with faults and attacks mixed in. What leaks, what grows, which verdicts waver?

It goes on where it was stopped: every chunk that is whole lies in `state/chunks`.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.soak import chunk, machine, tasks
from benchmarks.speed.clock import machine_facts

ORDER = ("quiet", "killed", "sandboxes killed", "both", "steady")
STEADY = (
    f"{tasks.PREFIX}honest"  # alone in a "steady" chunk: what grows there, grows with the number of episodes
)
_SHOWN = ("number", "weather", "episodes", "seconds", "process_kills", "sandbox_kills", "left")
_QUIET = ("quiet", "steady")
_WARM = 0.3  # of a process's episodes, before its memory is looked at


def soak(
    asked: chunk.Asked, *, episodes: int, per_chunk: int, minutes: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Play until so many episodes are done or the time is up; returns what all chunks until now amount to.

    Args:
        asked: What the chunks have in common.
        episodes: In all, with those of earlier calls.
        per_chunk: At least so many in one chunk; each case gets as many attempts.
        minutes: No chunk is begun after that.
        say: Told of each chunk.
    """
    machine.adopt_orphans()
    cases, until = tasks.write(asked.state / "tasks"), time.monotonic() + 60.0 * minutes
    (asked.state / "manifests").mkdir(exist_ok=True)
    done = asked.state / "chunks"
    done.mkdir(exist_ok=True)
    while sum(told["episodes"] for told in _told(done)) < episodes and time.monotonic() < until:
        number = len(list(done.glob("*.json")))
        weather = ORDER[number % len(ORDER)]
        mine = {STEADY: cases[STEADY]} if weather == "steady" else cases
        manifest = asked.state / "manifests" / f"{number:04d}.jsonl"
        rows = [{"path": str((asked.state / "tasks" / name).resolve())} for name in mine]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        attempts = math.ceil(per_chunk / len(mine))
        came = chunk.play(asked, number, mine, attempts=attempts, weather=weather, say=say)
        chunk.write(came, done / f"{number:04d}.json")
    return summary(_told(done), asked)


def _told(done: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in sorted(done.glob("*.json"))]


def summary(chunks: Sequence[dict[str, Any]], asked: chunk.Asked) -> dict[str, Any]:
    """Return what the chunks amount to, as it is published."""
    episodes = sum(told["episodes"] for told in chunks)
    minutes = sum(told["seconds"] for told in chunks) / 60
    left = _sum(told["left"] for told in chunks)
    cases = {
        case: _sum(told["statuses"].get(case, {}) for told in chunks)
        for case in sorted({c for told in chunks for c in told["statuses"]})
    }
    return {
        "question": "soak",
        "machine": machine_facts(),
        "runtime": asked.runtime,
        "concurrency": asked.concurrency,
        "episodes": episodes,
        "minutes": round(minutes, 1),
        "episodes_per_minute": round(episodes / minutes, 1) if minutes else None,
        "faults": {name: sum(told[name] for told in chunks) for name in ("process_kills", "sandbox_kills")},
        "lost_attempts": sum(told["lost"] for told in chunks),
        "doubled_attempts": sum(told["doubled"] for told in chunks),
        "unplayed_attempts": sum(told["unplayed"] for told in chunks),
        "wrong_verdicts": [text for told in chunks for text in told["wrong"]],
        "broken": sum(counts.get("broken", 0) for counts in cases.values()),
        "broken_in_quiet_chunks": sum(sum(told["broken"].values()) for told in chunks if told["weather"] in _QUIET),
        "broken_reasons": _sum(told["broken"] for told in chunks),
        "retried": sum(told["retried"] for told in chunks),
        "left_per_thousand_episodes": {kind: 1000 * count / episodes for kind, count in left.items()},
        "growth": [growth(told["samples"]) for told in chunks if told["weather"] == "steady"],
        "cases": cases,
        "chunks": [{name: told[name] for name in _SHOWN} for told in chunks],
    }  # fmt: skip


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    whole: Counter[str] = Counter()
    for one in counts:
        whole.update(one)
    return dict(whole)


def growth(samples: Sequence[dict[str, int]]) -> dict[str, float]:
    """Return what one undisturbed process gains in a thousand episodes, by least squares once it is warm."""
    last = samples[-1]["episodes"] if samples else 0
    warm = [sample for sample in samples if sample["episodes"] >= _WARM * last]
    at = [sample["episodes"] for sample in warm]
    gained: dict[str, float] = {"episodes": last}
    for name in ("memory_kb", "open_files", "threads"):
        values = [sample[name] for sample in warm]
        steady = len(set(at)) > 1
        slope = statistics.linear_regression(at, values).slope if steady else 0.0
        gained[f"{name}_per_thousand"] = round(1000 * slope, 1)
        gained[f"{name}_median"] = statistics.median(values) if values else 0
    return gained
