"""A run as a job folder of Harbor: what its files say, and that Harbor's own models read them and count the same."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit.evaluations import LATE, beside, evaluation
from typer.testing import CliRunner

from benchmarks.parity import harness
from terminal_gym.cli.app import app
from terminal_gym.trajectory.record import Graded, Outcome, Trajectory

NO_REWARD = Graded("failed", 0.0, "none was written", error="RewardFileNotFoundError")


def mixed(played: Trajectory) -> Trajectory | None:
    """Some that are broken, late, without a reward, with two rewards, and one that is missing."""
    changed: dict[tuple[str, int], Trajectory | None] = {
        ("a", 0): replace(played, outcome=Outcome("broken", None, "SandboxLost: gone")),
        ("a", 1): replace(played, limit=LATE),
        ("b", 0): replace(played, outcome=beside(NO_REWARD, Graded("failed", 0.0))),
        ("b", 1): replace(played, outcome=replace(played.outcome, rewards={"reward": 1.0, "style": 0.5})),
        ("b", 2): None,
    }
    return changed.get((played.task[-1], played.attempt), played)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    run = evaluation(tmp_path / "run", {"a": 0.8, "b": 0.4}, change=mixed)
    return exported(run, tmp_path / "job")


def exported(run: Path, out: Path) -> Path:
    ran = CliRunner().invoke(app, ["export", str(run), "--format", "harbor", "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    return out


def trials(job: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(job.glob("*/result.json"))]


def test_a_trial_has_what_the_format_says_and_ours_beside_it(job: Path) -> None:
    told = trials(job)
    assert len(told) == 9
    kinds = [one["exception_info"]["exception_type"] for one in told if one["exception_info"]]
    assert sorted(kinds) == ["AgentTimeoutError", "RewardFileNotFoundError", "SandboxLost"]
    assert sum(one["verifier_result"] is None for one in told) == 2, "an error there is no reward"
    for one in told:
        folder = job / one["trial_name"]
        assert (folder / "agent/trajectory.json").is_file()
        assert one["agent_result"]["metadata"]["terminal_gym"]["attempt"] in range(5)
        if one["verifier_result"]:
            name = "reward.json" if len(one["verifier_result"]["rewards"]) > 1 else "reward.txt"
            assert (folder / "verifier" / name).is_file()


def test_a_job_counts_what_is_missing_and_what_went_wrong(job: Path) -> None:
    told = json.loads((job / "result.json").read_text())
    assert (told["n_total_trials"], told["finished_at"]) == (10, None)
    stats = told["stats"]
    assert (stats["n_completed_trials"], stats["n_errored_trials"], stats["n_pending_trials"]) == (9, 3, 1)


@pytest.mark.docker
def test_harbors_own_models_read_it_and_count_the_same(job: Path, tmp_path: Path) -> None:
    if not harness.is_made():
        pytest.skip("the image of the official harnesses is not made: `pytest -m whole` makes it")
    whole = exported(evaluation(tmp_path / "whole", {"a": 0.8, "b": 0.4}), tmp_path / "whole-job")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    told = {}
    for name, folder in (("mixed", job), ("whole", whole)):
        argv = ["python3", "/harness/check/check_job.py", str(folder)]
        ran = harness.run(argv, work=tmp_path, tasks=tasks, timeout_s=120.0)
        assert ran.returncode == 0, ran.stderr
        told[name] = json.loads(ran.stdout)
        assert (told[name]["same_evals"], told[name]["same_counts"]) == (True, True), told
    assert [(one["trials"], one["trajectories"]) for one in told.values()] == [(9, 9), (10, 10)]
    (at_k,) = told["whole"]["pass_at_k"].values()
    assert at_k == pytest.approx({"2": 0.85, "4": 1.0, "5": 1.0})
