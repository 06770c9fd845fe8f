"""The gate: what makes a task unsound, and how the record is kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from terminal_gym.errors import StoreError
from terminal_gym.rollout.gate import WANTED, Attempt, ValidityRecord, check_task, find_problems, store
from terminal_gym.tasks.catalogue import read_folder

HELLO = read_folder(Path(__file__).parents[2] / "kit/tasks/hello")
SOUND = [
    Attempt(agent, k, status, "", {"test_x.py::test_x": status}, 1, {"total": 1.0})
    for agent, status in WANTED.items()
    for k in range(3)
]


def problems(*attempts: Attempt) -> list[str]:
    """Replace attempts by agent and number; returns what the gate says."""
    changed = {(a.agent, a.attempt): a for a in attempts}
    return list(find_problems([changed.get((a.agent, a.attempt), a) for a in SOUND], wanted=[*WANTED]))


def record(runtime: str = "docker", task_hash: str = "h") -> ValidityRecord:
    return ValidityRecord(
        "T/x", task_hash, runtime, "i", "sha256:0", "", "t", "2026-11-24", True, (), tuple(SOUND)
    )


def test_a_sound_task_has_no_problem() -> None:
    assert problems() == []


@pytest.mark.parametrize("agent", WANTED)
def test_one_other_verdict_is_a_problem(agent: str) -> None:
    other = "failed" if WANTED[agent] == "passed" else "passed"
    odd = next(a for a in SOUND if a.agent == agent and a.attempt == 2)
    assert problems(replace(odd, status=other, reason="checks")) == [
        f"{agent} 2 was {other} (checks), not {WANTED[agent]}"
    ]


def test_a_verdict_for_other_reasons_each_time_is_a_problem() -> None:
    assert problems(replace(SOUND[-1], checks={"test_x.py::test_y": "failed"})) == [
        "partial 2 had other checks than attempt 0"
    ]


def test_failing_without_a_check_shows_nothing() -> None:
    nop = [replace(a, checks={}, reason="agent_fault: timeout") for a in SOUND if a.agent == "nop"]
    assert len(problems(*nop)) == 3


def test_a_missing_solution_is_a_problem() -> None:
    found = list(find_problems([a for a in SOUND if a.agent == "nop"], wanted=[*WANTED]))
    assert found == ["there is no solution", "there is no partial solution"]


def test_broken_means_that_nothing_is_known() -> None:
    assert not record().is_broken
    assert replace(record(), attempts=(replace(SOUND[0], status="broken"),)).is_broken


def test_records_of_other_runtimes_stay_until_the_task_changes(tmp_path: Path) -> None:
    store(record("docker"), tmp_path)
    path = store(record("namespace"), tmp_path)
    assert list(json.loads(path.read_text())["records"]) == ["docker", "namespace"]
    store(record("docker", task_hash="new"), tmp_path)
    body = json.loads(path.read_text())
    assert (body["version"], list(body["records"])) == (1, ["docker"])
    path.write_text("not json")
    store(record("docker"), tmp_path)
    assert list(json.loads(path.read_text())["records"]) == ["docker"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="--no-write"):
        store(record(), tmp_path / "nope")


@pytest.mark.docker
def test_hello_is_sound_on_docker() -> None:
    found = check_task(HELLO, runtime="docker", date="2026-11-24", repeats=1)
    assert found.valid, found.problems
    assert (found.runtime, found.trusted_hash != "", found.image_digest[:7]) == ("docker", True, "sha256:")
