"""Reports: what they name, what they refuse, what they never mix; and the files that they leave."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from kit.evaluations import evaluation
from PIL import Image
from typer.testing import CliRunner

from benchmarks import published
from benchmarks.cli import app
from benchmarks.findings import make
from benchmarks.markdown import as_markdown
from benchmarks.report import FILES, as_object
from benchmarks.score import read
from terminal_gym.errors import BadSetting, StoreError
from terminal_gym.trajectory.record import Outcome, Trajectory

RATES = {"easy": 1.0, "fair": 0.6, "hard": 0.2, "never": 0.0}


def lose_some(played: Trajectory) -> Trajectory | None:
    if played.task.endswith("hard"):
        return None if played.attempt == 0 else played
    if played.task.endswith("fair") and played.attempt == 1:
        return replace(played, outcome=Outcome("broken", None, "SandboxLost: the daemon | went\naway"))
    return played


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return evaluation(tmp_path / "whole", RATES)


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    return evaluation(tmp_path / "torn", RATES, change=lose_some)


def test_it_names_all_that_a_number_depends_on(whole: Path) -> None:
    text = as_markdown(make([read(whole)]))
    for said in (
        "terminal-bench@2.0", read(whole).digest[:16], "terminus", "openai/tiny", "prompts", "the tasks' own",
        "| seed | 0 |", "| attempts | 5 |", "parity ¹", "4 tasks, and terminal-bench@2.0 has 89",
    ):  # fmt: skip
        assert said in text
    assert re.search(r"\| A \| parity ¹ \| 45\.0 \|", text)


def test_it_refuses_missing_attempts_and_shows_counts_but_no_score(torn: Path) -> None:
    said = CliRunner().invoke(app, ["report", str(torn)])
    assert isinstance(said.exception, BadSetting)
    assert "2 attempts have no verdict" in str(said.exception)
    assert "parity\t" in said.stdout
    assert "pass" not in said.stdout
    assert not (torn / "report").exists()


def test_told_to_allow_them_every_output_says_so(torn: Path) -> None:
    ran = CliRunner().invoke(app, ["report", str(torn), "--allow-missing"], catch_exceptions=False)
    assert ran.exit_code == 0
    text, body = ((torn / "report" / name).read_text("utf-8") for name in FILES[:2])
    for output in (ran.stdout, text):
        assert "2 of 20 attempts have no verdict" in output
        assert "45.0 to 55.0" in output, "the bounds: missing attempts failed, or passed"
    told = json.loads(body)
    assert told["missing_attempts"] == 2
    assert [gone["kind"] for gone in told["runs"][0]["missing"]] == ["broken", "not_played"]
    rows = [line for line in text.splitlines() if "the daemon" in line]
    assert rows == ["| A | fair 1 | broken | SandboxLost: the daemon \\| went away |"]


def test_an_override_is_in_every_output(tmp_path: Path) -> None:
    run = evaluation(tmp_path / "run", RATES, override={"agent_s": 60.0}, max_steps=10)
    report = make([read(run)])
    assert "**A: limits overridden**: 60 s for the agent at every task, at most 10 steps" in as_markdown(
        report
    )
    assert as_object(report)["runs"][0]["limits"].startswith("OVERRIDDEN: 60 s")


def test_several_runs_are_compared_and_their_order_is_theirs(whole: Path, tmp_path: Path) -> None:
    other = evaluation(
        tmp_path / "other", {"easy": 1.0, "fair": 0.8, "hard": 0.2, "never": 0.0}, agent="bash"
    )
    report = make([read(whole), read(other)])
    told = as_object(report)
    pair = next(one for one in told["comparisons"] if one["rules"] == "parity")
    assert (pair["first"], pair["second"], pair["better"], pair["worse"]) == ("A", "B", 1, 0)
    assert pair["difference"] == pytest.approx(0.05)
    assert pair["p_holm"] == 1.0
    assert "| B over A | parity | +5.0 |" in as_markdown(report)


def test_published_numbers_stand_apart_and_enter_nothing(whole: Path, tmp_path: Path) -> None:
    told = as_object(make([read(whole)]))
    assert {line["model"] for line in told["published"]} >= {"TerminalTraj-32B", "Qwen3-32B"}
    assert "22.0" not in json.dumps(told["runs"])
    text = as_markdown(make([read(whole)]))
    assert "not measured here" in text.partition("## Published elsewhere")[2]
    plain = evaluation(tmp_path / "plain", RATES, labels=None)
    settings = {**read(plain).settings, "labels": None}
    assert not as_object(make([replace(read(plain), settings=settings)]))["published"]


def test_the_published_rows_are_the_papers() -> None:
    gain = {
        version: published.lines(version)[9].percent - published.lines(version)[6].percent
        for version in ("1.0", "2.0")
    }
    assert gain == pytest.approx({"1.0": 30.30, "2.0": 17.51}), "32B over its backbone, as the notes say"
    assert [line.k for line in published.lines("1.0")].count(16) == 1
    assert not published.lines("9.9")


def test_the_plot_is_a_picture_of_the_curves(whole: Path) -> None:
    CliRunner().invoke(app, ["report", str(whole)], catch_exceptions=False)
    with Image.open(whole / "report" / "pass_at_k.png") as picture:
        assert picture.size == (1440, 810)
        blue = sum(
            count
            for count, (r, g, b) in picture.convert("RGB").getcolors(1 << 24) or ()
            if (r, g, b) == (0, 0x72, 0xB2)
        )
    assert blue > 1000, "the curve of run A is drawn in its colour"


def test_what_cannot_be_written_leaves_the_old_report(whole: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    said = CliRunner().invoke(app, ["report", str(whole), "--out", str(file / "below")])
    assert isinstance(said.exception, StoreError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "whole"]


@pytest.mark.parametrize("words", [["report"], ["report", "nowhere"], ["report", "a", "b"]], ids=" ".join)
def test_a_wrong_word_is_usage(words: list[str]) -> None:
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 2 or isinstance(said.exception, BadSetting)
