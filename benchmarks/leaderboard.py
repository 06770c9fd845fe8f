"""`tgym bench leaderboard-check`: what a leaderboard asks of a submission, and what a run has of it.

A rule that a run folder cannot answer is said to be open, never met.

Source: the submission rules of Terminal-Bench 1.0, 2.0 and 2.1 as reported in 2026; 2.0 has been closed since 2026-05.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks import terminal_bench
from benchmarks.evaluate import overrides
from benchmarks.findings import job_of
from benchmarks.score import JUDGED, Measured, by_task, read
from terminal_gym.cli.report import COLOUR, show, show_json, show_table
from terminal_gym.errors import BadSetting

Answer = Literal["met", "not met", "open"]


@dataclass(frozen=True)
class Rule:
    """One thing that is asked, and the answer."""

    asks: str
    answer: Answer
    has: str  # what the run has


def check(one: Measured) -> list[Rule]:
    """Return every rule of the run's benchmark with its answer.

    Raises:
        BadSetting: The run is of no benchmark with a leaderboard.
    """
    suite = terminal_bench.SUITES.get(one.benchmark.rpartition("@")[2])
    if suite is None:
        raise BadSetting(
            f"{one.folder} is a run of {one.benchmark or 'no benchmark'}; no leaderboard takes it."
        )
    changed, missing = overrides(job_of(one)), one.missing()
    return [
        _rule(f"all {suite.size} tasks", len(one.tasks) == suite.size, f"{len(one.tasks)} tasks"),
        Rule(
            f"the released tasks of {suite.name}, unchanged",
            "open",
            f"task set {one.digest[:16]}; compare it with that of your own download of the release",
        ),
        _rule(f"{suite.trials} or more attempts at each task", *_attempts(one, suite.trials)),
        _rule("a verdict on every attempt", not missing, f"{len(missing)} attempts without one"),
        _rule("the format's own verdict is the score", one.grading == "parity", f"scored by {one.grading}"),
        _rule("no time limit changed, multiplier 1.0", not changed, "; ".join(changed) or "the tasks' own"),
        _as_upstream(one),
        Rule(
            "an ATIF trajectory for every passed attempt",
            "met",
            "an attempt on record has one; `tgym export RUN --format harbor` writes it",
        ),
        Rule(
            "the agent did not visit the benchmark's site or repository", "open", "look at the trajectories"
        ),
        *_papers(suite.version),
    ]


def _rule(asks: str, met: bool, has: str) -> Rule:
    return Rule(asks, "met" if met else "not met", has)


def _attempts(one: Measured, wanted: int) -> tuple[bool, str]:
    groups = by_task(one.endings[one.grading])
    least = min(sum(e.kind in JUDGED for e in group) for group in groups.values())
    return least >= wanted, f"{one.attempts} planned, at least {least} with a verdict"


def _as_upstream(one: Measured) -> Rule:
    """Say whether machines and images were as upstream has them."""
    asks = "images and network as the tasks ask"
    odd = [f"{note} ({count} attempts)" for note, count in one.notes.items()]
    if odd:
        return Rule(asks, "not met", "; ".join(odd[:4]) + ("; …" if len(odd) > 4 else ""))
    return Rule(asks, "met", "nothing else is on record")


def _papers(version: str) -> list[Rule]:
    if version == "1.0":
        where = "a pull request with five run folders named YYYYMMDD_<agent>_<model>"
        return [
            Rule(where, "open", "this run is one folder of all attempts: export it, and name the folders")
        ]
    return [
        Rule(
            "result.json and artifacts of every trial", "met", "written by `tgym export RUN --format harbor`"
        ),
        Rule(
            "metadata.yaml: agent_url, agent_display_name, agent_org_display_name, models[…]",
            "open",
            "only you know these; write it beside the job folder",
        ),
        Rule(
            "submissions are open",
            "open",
            "2.0 was closed in 2026-05" if version == "2.0" else "through the 2.1 repository or Harbor's hub",
        ),
    ]


def run_leaderboard_check(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")] = False,
) -> None:
    """Say what the leaderboard asks of a submission and what a run has of it.

    Exit codes: 0 nothing that can be told here is against it, 1 a rule is not met.
    """
    rules = check(read(run))
    bad = sum(rule.answer == "not met" for rule in rules)
    if json:
        show_json({"run": str(run), "not_met": bad, "rules": [asdict(rule) for rule in rules]})
    else:
        show_table("", ["answer", "rule", "the run"], [[rule.answer, rule.asks, rule.has] for rule in rules])
        show(f"{bad} of {len(rules)} rules are not met", style=COLOUR["failed" if bad else "passed"])
    raise typer.Exit(1 if bad else 0)
