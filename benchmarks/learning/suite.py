"""`tgym bench learning`: which sizes there are, what runs in which order, and where the report goes."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.learning.experiment import Experiment, OutOfTime, Settings
from benchmarks.learning.report import MODELS, collect, page, whole
from benchmarks.speed.clock import machine_facts
from terminal_gym.errors import BadSetting, UnknownName

SIZES = {
    "full": Settings(lessons=60, practice=20, test=4, sft_steps=1000, rft_steps=200),
    "small": Settings(
        families=("trail", "relay", "vault", "clerk"),
        lessons=40,
        practice=60,
        test=8,
        base_attempts=2,
        blind_attempts=2,
        control_attempts=4,
        practice_attempts=2,
        practice_rounds=1,
        sft_steps=700,
        rft_steps=150,
        noisy=160,
        sizes=(80, 160),
    ),
    "pilot": Settings(
        families=("trail", "vault"), lessons=2, practice=1, test=1, attempts=2, blind_attempts=1, base_attempts=1,
        control_attempts=1, practice_attempts=1, practice_rounds=1, sft_steps=3, rft_steps=2, noisy=3, errs=0.3,
        sizes=(1,), side_attempts=1,
    ),
}  # fmt: skip
PARTS = ("base", "sft", "blind", "rft", "more", "faster", "sources", "left_out")


def numbers(text: str) -> list[int]:
    """Return the seeds of "0,1,2"."""
    try:
        return [int(one) for one in text.split(",") if one.strip()]
    except ValueError:
        raise BadSetting(f"seeds is {text!r}; write whole numbers with commas between them.") from None


def run(
    out: Path,
    *,
    size: str,
    seeds: Sequence[int],
    parts: Sequence[str],
    minutes: float | None,
    concurrency: int,
    threads: int,
    report_to: Path | None,
    say: Callable[[str], None],
) -> None:
    """Run what is left of an experiment, as far as the time goes, and write the report on what is whole.

    Raises:
        UnknownName: No such size or part.
        BadSetting: The folder was begun with another size, or a package is missing.
        StageFailed: A command of a stage failed.
    """
    if size not in SIZES:
        raise UnknownName("size", size, known=SIZES)
    for part in parts:
        if part not in PARTS:
            raise UnknownName("part", part, known=PARTS)
    _check_packages()
    ends_by = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    experiment = Experiment(
        out, SIZES[size], ends_by=ends_by, concurrency=concurrency, threads=threads, say=say
    )
    try:
        experiment.prepare()
        for seed in seeds:
            for part in parts:
                getattr(experiment, part)(seed)
    except OutOfTime as error:
        say(str(error))
    if report_to is not None and not write_report(out, report_to, size=size):
        say("No run on the held-out tasks is whole yet, so there is nothing to report.")


def write_report(out: Path, to: Path, *, size: str) -> bool:
    """Write `report.md`, `results.json` and `results.png` on what is whole at `out`; says whether anything is."""
    from benchmarks.learning.plots import draw

    results = {"size": size, "machine": machine_facts(), **collect(out)}
    if not any(whole(results, model) for model in MODELS):
        return False
    to.mkdir(parents=True, exist_ok=True)
    (to / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    (to / "report.md").write_text(page(results), "utf-8")
    draw(results, to / "results.png")
    return True


def _check_packages() -> None:
    """Raise BadSetting where a package is missing: now, not after the first rollouts."""
    for name in ("torch", "transformers", "trl", "openai", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise BadSetting(f"{name!r} is missing. In a checkout: pip install -e '.[train,llm,bench]'.")
