"""What is done with a run folder: counted, exported, played again."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from kit.trajectories import trajectory

from terminal_gym.cli import main
from terminal_gym.rollout.engine import Bounds
from terminal_gym.rollout.job import Job, open_rollout
from terminal_gym.sandbox.base import Runtime
from terminal_gym.trajectory.store import Run, RunWriter

HELLO = str(Path(__file__).parents[1] / "kit/tasks/hello")


def tgym(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def test_counted_exported_and_played_again(
    any_runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, name = tmp_path / "run", any_runtime.name
    with open_rollout(
        Job.of([HELLO], agent="oracle", attempts=2), folder, any_runtime, bounds=Bounds(2)
    ) as ready:
        ready.run()
    assert tgym("stats", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["pass_at_k"] == {"1": 1.0, "2": 1.0}
    assert tgym("export", folder, "--out", tmp_path / "casts", "--format", "asciicast", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2
    assert len(list((tmp_path / "casts").glob("*.cast"))) == 2
    assert tgym("replay", folder, "--runtime", name, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["replayed"], told["passed_again"], told["still_pass"]) == (2, 2, 1.0)


def test_a_verdict_that_its_actions_do_not_earn_is_found(
    any_runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job.of([HELLO], agent="oracle")
    claimed = replace(trajectory("TerminalTraj/hello", turns=1), task_hash=next(iter(job.tasks.values())))
    with RunWriter(tmp_path / "run", asdict(job)) as writer:
        writer.append(claimed)
    assert tgym("replay", tmp_path / "run", "--runtime", any_runtime.name, "--json") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["passed_then_failed"] == 1
    assert "was passed, is failed" in printed.err


def test_a_task_that_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    job = Job.of([HELLO], agent="oracle")
    changed = replace(job, tasks={HELLO: "sha256:another"})
    with RunWriter(tmp_path / "run", asdict(changed)):
        pass
    assert tgym("rollout", "--resume", tmp_path / "run") == 2
    assert tgym("replay", tmp_path / "run") == 2
    assert len(Run(tmp_path / "run")) == 0
