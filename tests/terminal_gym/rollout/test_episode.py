"""The loop on a real shell: the record is whole, and a fault of the machine never becomes a reward."""

from pathlib import Path

import pytest
from kit.folders import task_folder
from kit.local_env import LocalEnv

from terminal_gym.agents.agent import open_agent
from terminal_gym.agents.scripted import Scripted
from terminal_gym.errors import BadSetting
from terminal_gym.rollout.episode import run_episode
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.trajectory.record import Action


def made(home: Path) -> bool:
    return (home / "out.txt").exists()


@pytest.fixture
def env(tmp_path: Path) -> LocalEnv:
    task = read_folder(task_folder(tmp_path, solution_dot_sh="echo done > out.txt\n"))
    (tmp_path / "home").mkdir()
    return LocalEnv(task, tmp_path / "home", made)


def test_the_oracle_passes_and_its_record_is_whole(env: LocalEnv) -> None:
    played = run_episode(env, open_agent("oracle"), attempt=3, seed=7)
    assert (played.outcome.status, played.outcome.reward) == ("passed", 1.0)
    assert (played.task, played.agent, played.attempt, played.seed) == ("TerminalTraj/demo", "oracle", 3, 7)
    assert env.seeds == [7]
    assert played.steps[-1].action.submit
    assert played.frames
    assert (played.rows, played.cols, played.runtime) == (24, 80, "local")
    parts = played.seconds["reset"] + played.seconds["agent"] + played.seconds["verify"]
    assert parts == pytest.approx(played.seconds["total"])
    times = [t for step in played.steps for t in (step.began_s, step.ended_s)]
    assert times == sorted(times)


def test_doing_nothing_fails(env: LocalEnv) -> None:
    outcome = run_episode(env, open_agent("nop")).outcome
    assert (outcome.status, outcome.reward, outcome.reason) == ("failed", 0.0, "checks")


@pytest.mark.parametrize("breaks_after", [0, 2])
def test_a_lost_machine_is_broken_and_never_a_reward(env: LocalEnv, breaks_after: int) -> None:
    env.breaks_after = breaks_after
    played = run_episode(env, Scripted([Action(keys=(b"echo\n",))] * 3))
    assert (played.outcome.status, played.outcome.reward) == ("broken", None)
    assert "StartFailed: the machine went away" in played.outcome.reason
    assert len(played.steps) == max(0, breaks_after - 1)


def test_an_agent_that_cannot_play_is_told_before_anything_starts(env: LocalEnv) -> None:
    with pytest.raises(BadSetting):
        run_episode(env, open_agent("partial"))
    assert env.seeds == []
