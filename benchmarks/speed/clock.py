"""Warm-up, interleaved repeats, median and p90, and the facts of the machine that a number belongs to.

Contenders take turns (A B A B …), so that a machine whose speed drifts cannot favour one of them; a ratio is the
median of the ratios of neighbouring turns.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Turn = Callable[[], float]  # does the work once; returns what it measured, in the table's unit


@dataclass(frozen=True)
class Measured:
    """One contender's turns, in the order they were taken."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def p90(self) -> float:
        return sorted(self.values)[min(len(self.values) - 1, int(len(self.values) * 0.9))]

    def ratio_to(self, floor: Measured) -> float:
        """Return the median of this over `floor`, turn by turn."""
        return statistics.median(a / b for a, b in zip(self.values, floor.values, strict=True))


def interleave(
    contenders: Mapping[str, Turn], *, unit: str = "ms", repeats: int = 15, warm_up: int = 2
) -> dict[str, Measured]:
    """Let the contenders take turns; returns what each measured, without the warm-up turns."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warm_up + repeats):
        for name, work in contenders.items():
            value = work()
            if turn >= warm_up:
                taken[name].append(value)
    return {name: Measured(name, unit, tuple(values)) for name, values in taken.items()}


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long `work` took, in milliseconds of wall-clock time."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def machine_facts() -> dict[str, str | int | float]:
    """Return what a reader must know to place a number: processor count, kernel, Python, commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return {
        "cpus": os.cpu_count() or 0,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def save(path: Path, question: str, tables: Mapping[str, Mapping[str, Measured]]) -> None:
    """Write raw values and machine facts as JSON, replacing `path` whole."""
    told = {
        table: {
            m.name: {"unit": m.unit, "median": m.median, "p90": m.p90, "values": m.values}
            for m in rows.values()
        }
        for table, rows in tables.items()
    }
    keep(path, question, tables=told)


def keep(path: Path, question: str, **told: Any) -> None:
    """Write what was found about a question, beside machine facts, as JSON, replacing `path` whole."""
    raw = {"question": question, "machine": machine_facts(), **told}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(raw, indent=1) + "\n", "utf-8")
    draft.replace(path)
