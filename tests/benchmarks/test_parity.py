"""Parity with the official harnesses.

The whole, marked so, plays both sides. The slice holds ours, live, to verdicts that the official harnesses gave, as
`tgym bench parity` keeps them in `benchmarks/results/parity.json`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.parity import harness, official
from benchmarks.parity import record as records
from benchmarks.parity.cases import AGENTS, BASE, BASE_FOLDER, CASES, FORMATS, Case, Format, digest, write
from benchmarks.parity.compare import Batch, Pair, Walls, defects, paired, play_both, play_ours
from benchmarks.parity.official import Official
from benchmarks.parity.record import RESULTS, Record
from terminal_gym.errors import BadSetting
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.image import ImageRecipe

QUICK: dict[Format, tuple[str, ...]] = {
    "terminal-bench": ("skips", "planted-conftest", "scrollback"),
    "harbor": ("bad-json", "separate", "steps-without-reward"),
}
SLICE = (("harbor", "keys"),)  # where the machine holds the images
EVERY = [case for format in FORMATS for case in CASES[format]]


@pytest.fixture
def parity_base(docker_runtime: Runtime, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("whole") is None and not harness.is_made():
        pytest.skip("the images of the cases are not made: `pytest -m whole` makes them")
    docker_runtime.build(ImageRecipe(BASE, BASE_FOLDER))


def recorded(format: Format) -> list[Official]:
    return [
        Official(
            one.format,
            one.task,
            one.agent,
            one.official,
            one.official_reward,
            one.official_error,
            one.official_s,
        )
        for one in records.read(RESULTS).pairs
        if one.format == format
    ]


def test_what_is_on_record_is_every_case_as_it_is_and_differs_by_listed_defects_alone() -> None:
    record = records.read(RESULTS)
    assert len(record.of(EVERY, AGENTS)) == len(record.pairs) == len(EVERY) * len(AGENTS)
    assert [pair for pair in record.pairs if not pair.explained] == []
    differing = {pair.task for pair in record.pairs if not pair.agree}
    assert differing == {case.name for case in defects()}, "each listed defect is real"
    assert RESULTS.with_suffix(".md").read_text("utf-8") == records.as_markdown(record)
    assert sum(one.cases for one in record.walls) == len(record.pairs), (
        "each was played once, in one of the batches"
    )


def pair(of: Case, agent: str, **changed: object) -> Pair:
    made = Pair(
        of.format,
        of.name,
        agent,
        "passed",
        "",
        1.0,
        "passed",
        "",
        1.0,
        "passed",
        True,
        "",
        20.0,
        5.0,
        digest(of),
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def test_what_is_missing_is_played_in_batches_and_the_sides_take_turns_at_beginning(tmp_path: Path) -> None:
    cases = CASES["harbor"][:5]
    record = Record()
    record.add(
        [pair(cases[0], "nop"), pair(cases[1], "nop", case="of another folder")],
        Walls("harbor", "nop", 2, 1, "official", 0.5, 60.0, 12.0),
    )
    records.write(tmp_path / "parity.json", record)
    again = records.read(tmp_path / "parity.json")
    assert (again.pairs, again.walls) == (record.pairs, record.walls)
    left = records.missing(again, cases, ["nop"], size=3)
    assert [batch.cases for batch in left] == [tuple(case.name for case in cases[1:4]), (cases[4].name,)]
    assert [batch.ours_first for batch in left] == [False, True]
    table = (tmp_path / "parity.md").read_text("utf-8")
    assert "| harbor | nop | 2 | 1 | 60 | 12 | 5.0 |" in table


def test_a_difference_that_nothing_explains_is_exit_code_one(tmp_path: Path) -> None:
    case = next(case for case in CASES["harbor"] if case.name == "half")
    record = Record()
    record.add(
        [pair(case, "nop"), pair(case, "keys", ours="failed", agree=False)],
        Walls("harbor", "nop", 2, 1, "ours", 0.5, 60.0, 12.0),
    )
    out = tmp_path / "parity.json"
    records.write(out, record)
    words = ["parity", "--case", "half", "--out", str(out)]
    assert CliRunner().invoke(app, [*words, "--agent", "nop"]).exit_code == 0
    assert CliRunner().invoke(app, [*words, "--agent", "keys"]).exit_code == 1
    told = CliRunner().invoke(app, [*words, "--agent", "nop", "--agent", "oracle", "--minutes", "0"])
    assert (told.exit_code, "1 are missing" in told.output) == (3, True)


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "parity.json").write_text('{"version": 1, "trials": []}')
    with pytest.raises(BadSetting, match="version 1"):
        records.read(tmp_path / "parity.json")


@pytest.mark.docker
@pytest.mark.parametrize(
    ("format", "agent"),
    [
        pytest.param(format, agent, marks=() if (format, agent) in SLICE else pytest.mark.whole)
        for format in FORMATS
        for agent in AGENTS
    ],
)
def test_ours_says_what_the_official_harness_said(
    format: Format, agent: str, docker_runtime: Runtime, tmp_path: Path, parity_base: None
) -> None:
    names = QUICK[format]
    tasks, keys = official.lay(format, tmp_path, names)
    here = play_ours(
        format, agent, docker_runtime, tasks=tasks, keys=keys, work=tmp_path / "ours", concurrency=2
    )
    pairs = paired(recorded(format), here)
    assert sorted(pair.task for pair in pairs) == sorted(names)
    assert [pair for pair in pairs if not pair.explained] == []


@pytest.mark.docker
@pytest.mark.whole
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("format", FORMATS)
def test_both_sides_again(
    format: Format, agent: str, docker_runtime: Runtime, tmp_path: Path, parity_base: None
) -> None:
    batch = Batch(format, agent, tuple(case.name for case in CASES[format]))
    pairs, walls = play_both(batch, docker_runtime, root=tmp_path, concurrency=2)
    assert len(pairs) == len(CASES[format])
    assert [pair for pair in pairs if not pair.explained] == []
    assert walls.ours_s < walls.official_s


@pytest.mark.parametrize("format", FORMATS)
def test_every_case_is_a_task_that_ours_reads(format: Format, tmp_path: Path) -> None:
    for case in CASES[format]:
        task = read_folder(write(case, tmp_path))
        assert task.ref.name == case.name
