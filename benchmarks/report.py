"""Run folders → one report: Markdown for people, JSON for programs, a plot of pass@k. It appears whole, or not at all.

A report names everything that a number depends on, counts what broke apart, and refuses to score a set with missing
attempts unless it is told to; then every output says so.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import published
from benchmarks.findings import Report, facts, lines, make, seconds
from benchmarks.markdown import as_markdown
from benchmarks.score import KINDS, RESAMPLES, Measured, Score, by_task, differences, read
from terminal_gym.cli.report import show, show_json, show_table
from terminal_gym.errors import BadSetting, StoreError

VERSION = 1
FILES = ("report.md", "report.json", "pass_at_k.png")


def run_report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write; default: the folder `report` in the run folder.")
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Score also where attempts have no verdict; every output says so."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of bootstrap and permutation.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")] = False,
) -> None:
    """Report on evaluations: pass@k with intervals, what broke, strict against parity, runs against one another.

    Writes report.md, report.json and pass_at_k.png. Refuses to score a set with missing attempts (exit code 2).
    """
    if out is None and len(runs) > 1:
        raise typer.BadParameter("several runs: say --out FOLDER")
    measured = [read(run) for run in runs]
    try:
        report = make(measured, allow_missing=allow_missing, seed=seed)
    except BadSetting:
        if not json:
            for one in measured:
                show_counts(one)
        raise
    where = out or runs[0] / "report"
    paths = write(report, where)
    if json:
        show_json(as_object(report))
        return
    show(as_markdown(report))
    show(", ".join(map(str, paths)))


def show_counts(one: Measured) -> None:
    """Print how attempts ended, and no score."""
    rows = [
        [rules, *(str(sum(e.kind == kind for e in endings)) for kind in KINDS)]
        for rules, endings in one.endings.items()
    ]
    show(f"{one.folder}: {len(one.tasks)} tasks x {one.attempts} attempts, by {one.played_by}")
    show_table("", ["rules", *(kind.replace("_", " ") for kind in KINDS)], rows)


def write(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write the three files into `folder`, replacing those of an earlier report; returns their paths.

    Raises:
        StoreError: They cannot be written; what was there before is still there.
    """
    from benchmarks import plot  # here, not above: matplotlib takes a second to import

    draft = folder.with_name(f".{folder.name}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        (draft / "report.md").write_text(as_markdown(report), "utf-8")
        text = json.dumps(as_object(report), indent=1, allow_nan=False, ensure_ascii=False)
        (draft / "report.json").write_text(text + "\n", "utf-8")
        plot.pass_at_k(report, draft / "pass_at_k.png")
        folder.mkdir(exist_ok=True)
        for name in FILES:
            (draft / name).replace(folder / name)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return tuple(folder / name for name in FILES)


def as_object(report: Report) -> dict[str, Any]:
    """Return the report as one JSON object."""
    return {
        "version": VERSION,
        "missing_attempts": report.missing,
        "seed": report.seed,
        "resamples": RESAMPLES,
        "runs": [_run(report, at) for at in range(len(report.runs))],
        "comparisons": [
            {"first": report.letter(a), "second": report.letter(b), **asdict(pair)}
            for a, b, pair in report.pairs
        ],
        "published": [asdict(line) for line in lines(report)],
        "published_notes": list(published.NOTES) if lines(report) else [],
    }


def _run(report: Report, at: int) -> dict[str, Any]:
    one = report.runs[at]
    return {
        "name": report.letter(at),
        "folder": str(one.folder),
        **facts(one),
        "scores": {rules: _score(found) for rules, found in report.scores[at].items()},
        "differences": [asdict(found) for found in differences(one)],
        "missing": [asdict(ending) for ending in one.missing()],
        "seconds": seconds(one),
        "tasks": {
            task: {
                rules: {kind: sum(e.kind == kind for e in group[task]) for kind in KINDS}
                for rules, group in ((rules, by_task(endings)) for rules, endings in one.endings.items())
            }
            for task in one.tasks
        },
    }


def _score(found: Score) -> dict[str, Any]:
    return asdict(found) | {
        "pass_at": {str(k): {"value": value, "interval": list(i)} for k, (value, i) in found.pass_at.items()}
    }
