"""Parity with the official harnesses.

The whole, marked so, plays both sides. The slice holds ours, live, to verdicts that the official harnesses gave, as
`tgym bench parity` keeps them in `benchmarks/results/parity.json`; until that has been run to its end, it is skipped.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.parity import official
from benchmarks.parity.cases import AGENTS, BASE, BASE_FOLDER, CASES, FORMATS, Format, write
from benchmarks.parity.compare import RESULTS, compare, defects, paired, play_ours
from benchmarks.parity.official import Official
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.image import ImageRecipe

QUICK: dict[Format, tuple[str, ...]] = {
    "terminal-bench": ("skips", "planted-conftest", "scrollback"),
    "harbor": ("bad-json", "separate", "two-steps"),
}


needs_record = pytest.mark.skipif(
    not RESULTS.exists(), reason="no verdicts of the official harnesses are on record"
)


@pytest.fixture(scope="module")
def parity_base(docker_runtime: Runtime) -> None:
    docker_runtime.build(ImageRecipe(BASE, BASE_FOLDER))


def recorded() -> list[Official]:
    told = json.loads(RESULTS.read_text("utf-8"))["trials"]
    names = ("format", "task", "agent", "official", "official_reward", "official_error", "official_s")
    return [Official(*(one[name] for name in names)) for one in told]


@needs_record
def test_what_is_on_record_covers_every_case_and_agent_and_differs_by_listed_defects_alone() -> None:
    told = json.loads(RESULTS.read_text("utf-8"))["trials"]
    assert {(one["format"], one["task"], one["agent"]) for one in told} == {
        (format, case.name, agent) for format in FORMATS for case in CASES[format] for agent in AGENTS
    }
    differing = [one for one in told if not one["agree"]]
    assert all(one["defect"] for one in differing), [one["task"] for one in differing if not one["defect"]]
    assert {one["task"] for one in differing} == {case.name for case in defects()}, (
        "each listed defect is real"
    )


@pytest.mark.whole
@needs_record
@pytest.mark.docker
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("format", FORMATS)
def test_ours_says_what_the_official_harness_said(
    format: Format, agent: str, docker_runtime: Runtime, tmp_path: Path, parity_base: None
) -> None:
    names = QUICK[format]
    tasks, keys = official.lay(format, tmp_path, names)
    here = play_ours(
        format, agent, docker_runtime, tasks=tasks, keys=keys, work=tmp_path / "ours", concurrency=2
    )
    pairs = paired([one for one in recorded() if one.format == format], here)
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
    pairs, walls = compare(format, agent, docker_runtime, root=tmp_path, concurrency=2)
    assert len(pairs) == len(CASES[format])
    assert [pair for pair in pairs if not pair.explained] == []
    assert walls["ours_s"] < walls["official_s"]


@pytest.mark.parametrize("format", FORMATS)
def test_every_case_is_a_task_that_ours_reads(format: Format, tmp_path: Path) -> None:
    for case in CASES[format]:
        task = read_folder(write(case, tmp_path))
        assert task.ref.name == case.name
