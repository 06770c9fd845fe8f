"""The leaderboard check: each rule is met by a run that keeps it and not by one that breaks it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kit.evaluations import evaluation
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.leaderboard import check
from benchmarks.score import read
from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.record import Outcome, Trajectory

ALL = {f"task-{number:02d}": 0.5 for number in range(89)}


def answers(run: Path) -> dict[str, str]:
    return {rule.asks: rule.answer for rule in check(read(run))}


def test_a_whole_run_breaks_no_rule_and_what_nobody_can_tell_is_open(tmp_path: Path) -> None:
    run = evaluation(tmp_path / "run", ALL)
    told = answers(run)
    assert set(told.values()) == {"met", "open"}
    assert told["the released tasks of terminal-bench@2.0, unchanged"] == "open"
    ran = CliRunner().invoke(app, ["leaderboard-check", str(run), "--json"])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["not_met"] == 0


def substituted(played: Trajectory) -> Trajectory:
    return replace(played, outcome=replace(played.outcome, notes=("base image: bootstrapped",)))


def broken_once(played: Trajectory) -> Trajectory:
    lost = Outcome("broken", None, "SandboxLost: gone")
    return replace(played, outcome=lost) if (played.attempt, played.task[-2:]) == (0, "07") else played


def ours_alone(played: Trajectory) -> Trajectory:
    return replace(played, outcome=Outcome("passed", 1.0))


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"rates": {"task-00": 0.5}}, "all 89 tasks"),
        ({"attempts": 4}, "5 or more attempts at each task"),
        ({"override": {"multiplier": 2.0}}, "no time limit changed, multiplier 1.0"),
        ({"max_steps": 5}, "no time limit changed, multiplier 1.0"),
        ({"change": substituted}, "images and network as the tasks ask"),
        ({"change": broken_once}, "a verdict on every attempt"),
        ({"change": ours_alone}, "the format's own verdict is the score"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_each_broken_rule_is_named(changed: dict[str, object], rule: str, tmp_path: Path) -> None:
    run = evaluation(tmp_path / "run", **({"rates": ALL} | changed))  # type: ignore[arg-type]
    assert answers(run)[rule] == "not met"
    assert CliRunner().invoke(app, ["leaderboard-check", str(run)]).exit_code == 1


def test_a_run_of_no_benchmark_has_no_leaderboard(tmp_path: Path) -> None:
    one = read(evaluation(tmp_path / "run", {"a": 1.0}))
    with pytest.raises(BadSetting, match="no leaderboard"):
        check(replace(one, settings={**one.settings, "labels": None}))
