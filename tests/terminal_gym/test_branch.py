"""Branches of an episode: what they share, what goes on from where it was, and what is left once all are closed."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit.fake_runtime import FakeRuntime, FileValidator
from kit.folders import task_folder

from terminal_gym.agents.agent import open_agent
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import BadSetting, EpisodeNotRunning, StartFailed
from terminal_gym.rollout.episode import run_episode
from terminal_gym.sandbox.base import Runtime
from terminal_gym.sandbox.committed import composed
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.task import Task

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"


@pytest.fixture
def fake() -> Iterator[FakeRuntime]:
    runtime = FakeRuntime()
    yield runtime
    gc.collect()
    assert (runtime.held, runtime.kept) == ([], [])


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return read_folder(task_folder(tmp_path))


def made(task: Task, fake: FakeRuntime, **settings: Any) -> TerminalEnv:
    env = TerminalEnv(task, runtime=fake, validator=FileValidator(), rows=24, cols=80, **settings)
    env.reset()
    return env


# ── on a shell of this machine ──────────────────────────────────────────────────────────────────


def test_a_branch_is_an_episode_of_its_own(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake, action_mode="bash") as env:
        env.step("echo shared > shared.txt")
        left, right = env.branch(2)
        for branch in (left, right):
            _, info = branch.reset()
            assert (info["steps"], info["instruction"]) == (1, task.instruction)
        seen, *_, info = left.step("cat shared.txt; touch out.txt")
        assert (seen["output"], info["steps"]) == ("shared\n", 2)
        assert left.step("<submit>")[1] == 1.0
        assert right.step("<submit>")[1] == 0.0
        assert env.step("ls")[0]["output"] == "shared.txt\n"
        assert env.step("<submit>")[1] == 0.0
        left.close()
        right.close()
    assert fake.kept == []


def test_reset_begins_at_the_snapshot_every_time(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake, action_mode="bash") as env, env.snapshot() as moment:
        env.step("touch later")
        (branch,) = env.branch(at=moment)
    for _ in range(2):  # its maker and its parent are gone
        branch.reset()
        assert branch.step("ls; touch mine")[0]["output"] == ""
    branch.close()
    branch.close()
    with pytest.raises((EpisodeNotRunning, StartFailed)):
        branch.reset()
    assert fake.held == []


def test_limits_are_carried(task: Task, fake: FakeRuntime) -> None:
    task = replace(task, limits=replace(task.limits, steps=3, agent_s=500.0))
    with made(task, fake, max_steps=50) as env:
        env.step("true\n")
        env._began -= 100.0  # as if so much time had gone by
        with env.snapshot() as moment:
            assert 100.0 <= moment.elapsed_s < 150.0
            (branch,) = env.branch(at=moment)
        (twig,) = branch.branch(at=moment)
    branch.reset()
    assert 100.0 <= branch.step("true\n")[4]["elapsed_s"] < 200.0
    *_, truncated, info = branch.step("true\n")
    assert truncated
    assert info["limit"] == "the limit of 3 steps"
    assert twig.reset()[1]["steps"] == 1
    branch.close()
    twig.close()


def test_the_time_of_a_snapshot_is_not_the_agents(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake) as env:
        before_s, began = env.step("true\n")[4]["elapsed_s"], time.monotonic()
        fake.fault = lambda method: busy(0.5) if method == "snapshot" else None
        env.snapshot().close()
        after_s = env.step("true\n")[4]["elapsed_s"]
        assert after_s - before_s <= time.monotonic() - began - 0.5


def busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_an_agent_plays_a_branch_like_any_environment(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake) as env:
        env.step("touch out.txt\n")
        (branch,) = env.branch()
    with branch:
        played = run_episode(branch, open_agent("nop"))
    assert played.outcome.status == "passed"
    assert len(played.steps) == 1


def test_what_cannot_be_branched_is_said(task: Task, fake: FakeRuntime, tmp_path: Path) -> None:
    env = TerminalEnv(task, runtime=fake, validator=FileValidator())
    with pytest.raises(EpisodeNotRunning, match="reset"):
        env.snapshot()
    env.reset()
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(BadSetting, match="n is"):
            env.branch(wrong)  # type: ignore[arg-type]
    with env.snapshot() as moment:
        pass
    with pytest.raises(EpisodeNotRunning, match="closed"):
        env.branch(at=moment)
    with env.snapshot() as moment, pytest.raises(BadSetting, match="hello"):
        TerminalEnv(HELLO, runtime=fake).branch(at=moment)
    env.step("<submit>")
    with pytest.raises(EpisodeNotRunning):
        env.branch()
    env.close()


def test_a_machine_that_cannot_keep_it_leaves_the_episode_alone(task: Task, fake: FakeRuntime) -> None:
    def full(method: str) -> None:
        if method == "snapshot":
            raise StartFailed("no room")

    with made(task, fake) as env:
        fake.fault = full
        with pytest.raises(StartFailed, match="no room"):
            env.branch(3)
        fake.fault = lambda method: None
        assert "hi" in env.step("echo hi\n")[0]["output"]


# ── on every runtime ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hello(any_runtime: Runtime) -> Task:
    task = read_folder(HELLO)
    any_runtime.build(task.image)
    return task


def test_branches_solve_what_their_parent_did_not(any_runtime: Runtime, hello: Task) -> None:
    with TerminalEnv(hello, runtime=any_runtime, action_mode="bash") as env:
        env.reset()
        env.step("mkdir -p /srv/deep; cd /srv/deep; echo 'hello, world' > /app/greeting.txt")
        solved, gave_up = env.branch(2)
        with solved, gave_up:
            for branch in (solved, gave_up):
                branch.reset()
                assert branch.step("pwd")[0]["output"] == "/srv/deep\n"
            solved.step("echo 500500 >> /app/greeting.txt")
            (twig,) = solved.branch()
            with twig:
                assert twig.reset()[1]["steps"] == 3
                assert twig.step("<submit>")[1] == 1.0
            assert gave_up.step("<submit>")[1] == 0.0
            assert solved.step("<submit>")[1] == 1.0
        assert env.step("<submit>")[1] == 0.0


def test_flags_are_of_the_tasks_image_not_of_the_snapshot(any_runtime: Runtime, hello: Task) -> None:
    restart = replace(hello, validator=replace(hello.validator, mode="restart", artifacts=()))
    with TerminalEnv(restart, runtime=any_runtime, action_mode="bash") as env:
        env.reset()
        env.step("echo '# mine' >> /etc/nsswitch.conf; printf 'hello, world\\n500500\\n' > /app/greeting.txt")
        (branch,) = env.branch()
        with branch:
            branch.reset()
            info = branch.step("<submit>")[4]
    assert info["status"] == "passed"
    assert any("name_service" in flag for flag in info["integrity"]), info["integrity"]


@pytest.mark.parametrize(
    ("before", "since", "told"),
    [
        ({"/a": 1}, {"/a": 0}, {"/a": 1}),  # what was added stays added
        ({"/a": 1}, {"/a": 2}, {}),
        ({"/a": 0}, {"/a": 2}, {"/a": 2}),
        ({"/a": 2}, {"/a": 1}, {"/a": 0}),  # the image had it: deleting it once more is a change
        ({"/d": 0, "/d/new": 1, "/do": 1}, {"/d": 2}, {"/d": 2, "/do": 1}),
        ({"/d": 1, "/d/new": 1}, {"/d": 2}, {}),
        ({}, {"/a": 1, "/b": 2}, {"/a": 1, "/b": 2}),
    ],
)
def test_changes_are_put_together(
    before: dict[str, int], since: dict[str, int], told: dict[str, int]
) -> None:
    assert composed(before, since) == told
