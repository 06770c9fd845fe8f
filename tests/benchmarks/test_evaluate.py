"""`tgym bench terminal-bench`, as a person types it: real sandboxes, a real run folder, a real report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kit.folders import task_folder

from benchmarks import terminal_bench
from benchmarks.evaluate import make_job, overrides
from benchmarks.score import read
from terminal_gym.errors import BadSetting, UnknownName
from terminal_gym.sandbox.base import Runtime
from terminal_gym.trajectory.store import Run

TASKS = Path(__file__).parents[1] / "kit/tasks"
TGYM = Path(sys.executable).with_name("tgym")


def tgym(*words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [TGYM, "bench", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.docker
def test_an_oracle_at_a_task_k_times_then_the_report(docker_runtime: Runtime, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked: list[str | Path] = ["terminal-bench", "--version", "1.0", "--tasks", TASKS, "--task", "hello"]
    asked += ["--agent", "oracle", "-k", "3", "-n", "3", "--runtime", docker_runtime.name, "--out", run]
    played = tgym(*asked)
    assert played.returncode == 0, played.stderr
    assert "1 tasks x 3 attempts" in played.stderr
    assert "60 s each, the tasks' own" in played.stderr
    rows = Run(run).standing
    assert sorted(rows) == [("TerminalBench1/hello", k) for k in range(3)]
    attempts = list(Run(run))
    assert len({played.seed for played in attempts}) == 3, "each attempt has a seed of its own"
    told = tgym("report", run, "--json")
    assert told.returncode == 0, told.stderr
    (found,) = json.loads(told.stdout)["runs"]
    assert found["scores"]["strict"]["counts"]["passed"] == 3
    assert found["scores"]["strict"]["pass_at"]["3"] == {"value": 1.0, "interval": [1.0, 1.0]}
    assert found["seconds"]["total"]["median"] > 0
    again = tgym("terminal-bench", "--resume", run, "--runtime", docker_runtime.name)
    assert again.returncode == 0, again.stderr
    assert "0 of 3 attempts are left to play" in again.stderr
    assert len(Run(run).rows) == 3, "what is on record is not played again"


@pytest.mark.docker
def test_an_override_is_said_recorded_and_held_to(docker_runtime: Runtime, tmp_path: Path) -> None:
    run, script = tmp_path / "run", tmp_path / "script.yaml"
    script.write_text('- {text: "sleep 60\\n", wait_s: 60}\n')
    asked: list[str | Path] = ["terminal-bench", "--version", "1.0", "--tasks", TASKS, "--task", "hello"]
    asked += [
        "--agent",
        "scripted",
        "--agent-setting",
        f"script={script}",
        "-k",
        "1",
        "--agent-timeout-s",
        "2",
    ]
    played = tgym(*asked, "--runtime", docker_runtime.name, "--out", run)
    assert played.returncode == 0, played.stderr
    assert "OVERRIDDEN: 2 s for the agent at every task" in played.stderr
    assert Run(run).settings["override"] == {"agent_s": 2.0}
    (row,) = Run(run).rows
    assert (row.status, row.limit) == ("failed", "the limit of 2 s")
    assert row.seconds < 30
    assert [e.kind for e in read(run).endings["strict"]] == ["timed_out"]


def test_names_choose_tasks(tmp_path: Path) -> None:
    for name in ("apple", "apricot", "banana"):
        task_folder(tmp_path, name=name)
    of = terminal_bench.suite("1.0")

    def names(**chosen: tuple[str, ...]) -> list[str]:
        return [path.name for path in terminal_bench.folders(tmp_path, of, **chosen)]

    assert names() == ["apple", "apricot", "banana"]
    assert names(only=("ap*",), without=("apricot",)) == ["apple"]
    with pytest.raises(BadSetting, match="named 'cherry'"):
        names(only=("cherry",))


def test_a_set_of_another_version_is_refused(tmp_path: Path) -> None:
    task_folder(tmp_path, name="apple")
    with pytest.raises(BadSetting, match=r"task\.toml.*It holds tasks of version 1\.0"):
        terminal_bench.folders(tmp_path, terminal_bench.suite("2.1"))
    with pytest.raises(UnknownName, match=r"3\.0"):
        terminal_bench.suite("3.0")


def test_the_digest_names_contents_and_not_places(tmp_path: Path) -> None:
    jobs = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        for name in ("apple", "banana"):
            task_folder(tmp_path / place, name=name)
        jobs.append(make_job("1.0", tmp_path / place, agent="nop", attempts=1))
    assert jobs[0].labels == jobs[1].labels
    (tmp_path / "there/apple/tests/test_outputs.py").write_text("def test_other(): pass\n")
    changed = make_job("1.0", tmp_path / "there", agent="nop", attempts=1)
    assert changed.labels != jobs[0].labels
    assert list(changed.open_tasks()) == ["TerminalBench1/apple", "TerminalBench1/banana"]


def test_tasks_keep_their_own_times_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    task_folder(tmp_path, name="apple")
    own = make_job("1.0", tmp_path, agent="nop", attempts=1)
    other = make_job("1.0", tmp_path, agent="nop", attempts=1, override={"multiplier": 2.0})
    (before,), (after,) = own.open_tasks().values(), other.open_tasks().values()
    assert after.limits.agent_s == 2 * before.limits.agent_s
    assert other.tasks == own.tasks, "the set is the same; what is changed is said apart"
    assert (overrides(own), overrides(other)) == ([], ["times stretched by 2"])
    with pytest.raises(BadSetting, match="multiplier is 0"):
        make_job("1.0", tmp_path, agent="nop", attempts=1, override={"multiplier": 0.0}).open_tasks()


def test_the_formats_own_verdict_is_the_reward_unless_asked_otherwise(tmp_path: Path) -> None:
    folder = task_folder(tmp_path, name="apple")
    (folder / "run-tests.sh").write_text("#!/bin/bash\npython3 -m pytest $TEST_DIR/test_outputs.py -rA\n")
    own = make_job("1.0", tmp_path, agent="nop", attempts=1)
    assert (own.grading, own.network) == ("parity", "upstream")
    (folder / "run-tests.sh").unlink()
    assert make_job("1.0", tmp_path, agent="nop", attempts=1).grading == "strict", "there is no other judge"
    other = make_job("1.0", tmp_path, agent="nop", attempts=1, grading="strict", network="none")
    assert (other.grading, other.network) == ("strict", "none")
    with pytest.raises(BadSetting, match="grading is 'lenient'"):
        make_job("1.0", tmp_path, agent="nop", attempts=1, grading="lenient")
