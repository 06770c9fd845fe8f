"""Many environments at once: batched as gymnasium says, and one that fails does not stop the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from kit.fake_runtime import FakeRuntime, FileValidator
from kit.folders import task_folder

from terminal_gym.env import SUBMIT
from terminal_gym.errors import (
    BadAction,
    BadSetting,
    EpisodeNotRunning,
    SandboxLost,
    StartFailed,
    UnknownName,
)
from terminal_gym.registration import register
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.vector_env import ThreadVectorEnv

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"
Make = Callable[..., ThreadVectorEnv]


@pytest.fixture
def fake() -> Iterator[FakeRuntime]:
    runtime = FakeRuntime()
    yield runtime
    left = len(runtime.held)
    runtime.close()
    assert not left, "an environment left its sandbox behind"


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return [str(task_folder(tmp_path, name=f"task_{n}")) for n in range(4)]


@pytest.fixture
def make(fake: FakeRuntime, folders: list[str]) -> Iterator[Make]:
    opened: list[ThreadVectorEnv] = []

    def made(num_envs: int, **settings: Any) -> ThreadVectorEnv:
        known = {"task": folders[0]} if "manifest" not in settings else {}
        settings = {"runtime": fake, "validator": FileValidator(), "rows": 24, "cols": 80} | known | settings
        opened.append(ThreadVectorEnv(num_envs, **settings))
        return opened[-1]

    yield made
    for envs in opened:
        envs.close()
        envs.close()


def test_a_batch_is_in_its_space(make: Make) -> None:
    envs = make(3)
    seen, infos = envs.reset(seed=7)
    assert seen in envs.observation_space
    assert infos["status"].tolist() == ["running"] * 3
    seen, rewards, terminated, truncated, infos = envs.step(["echo a''1\n", "echo a''2\n", "echo a''3\n"])
    assert seen in envs.observation_space
    assert [f"a{k + 1}" in text for k, text in enumerate(seen["output"])] == [True] * 3
    assert seen["exit_code"].tolist() == [0, 0, 0]
    assert (rewards.tolist(), terminated.any(), truncated.any()) == ([0.0] * 3, False, False)
    assert len(envs.step(envs.action_space.sample())[1]) == 3


def test_slots_work_at_once(make: Make) -> None:
    envs = make(8)
    envs.reset()
    began = time.monotonic()
    seen = envs.step(["sleep 0.5; echo do''ne\n"] * 8)[0]
    assert all("done" in text for text in seen["output"])
    assert time.monotonic() - began < 3.0  # 4.0 s one after another


def test_ended_slots_wait_for_the_mask(make: Make) -> None:
    envs = make(2)
    envs.reset()
    _, rewards, terminated, _, infos = envs.step(["touch out.txt\n", SUBMIT])
    assert (rewards.tolist(), terminated.tolist()) == ([0.0, 0.0], [False, True])
    assert infos["status"].tolist() == ["running", "failed"]
    _, rewards, terminated, truncated, _ = envs.step([SUBMIT, None])
    assert (rewards.tolist(), terminated.tolist(), truncated.any()) == ([1.0, 0.0], [True, True], False)
    with pytest.raises(EpisodeNotRunning, match="reset_mask"):
        envs.step(["ls\n"] * 2)
    envs.reset(options={"reset_mask": np.array([True, False])})
    terminated = envs.step(["true\n", None])[2]
    assert terminated.tolist() == [False, True]


def test_slots_get_different_tasks(make: Make, folders: list[str]) -> None:
    envs = make(4, manifest=folders)
    first = envs.reset(seed=5)[1]["task"].tolist()
    assert len(set(first)) == 4
    assert make(4, manifest=folders).reset(seed=5)[1]["task"].tolist() == first
    infos = envs.reset(options={"task": [folders[0], folders[0], folders[1], folders[2]]})[1]
    assert [name[-1] for name in infos["task"]] == ["0", "0", "1", "2"]
    assert set(envs.reset(options={"task": folders[3]})[1]["task"]) == {"TerminalTraj/task_3"}
    with pytest.raises(UnknownName):
        envs.reset(options={"task": "elsewhere"})


def test_seeds_one_each(make: Make, folders: list[str]) -> None:
    envs = make(3, manifest=folders)
    tasks = envs.reset(seed=[4, 4, 4])[1]["task"]
    assert len(set(tasks)) == 1
    assert envs.reset(seed=np.int64(3))[1]["status"].tolist() == ["running"] * 3  # type: ignore[arg-type]
    with pytest.raises(BadSetting):
        envs.reset(seed=[1, 2])


def test_one_that_breaks_does_not_stop_the_rest(make: Make, fake: FakeRuntime) -> None:
    envs = make(3)
    envs.reset()
    lost = iter([SandboxLost("the daemon is gone")])

    def fault(method: str) -> None:
        if method == "stop" and (error := next(lost, None)):
            raise error

    fake.fault = fault
    _, rewards, terminated, truncated, infos = envs.step(["true\n", SUBMIT, "true\n"])
    assert [math.isnan(reward) for reward in rewards] == [False, True, False]
    assert (terminated.any(), truncated.tolist()) == (False, [False, True, False])
    assert infos["status"].tolist() == ["running", "broken", "running"]
    assert "the daemon is gone" in infos["reason"][1]


def test_one_that_does_not_start_is_broken_at_its_next_step(make: Make, fake: FakeRuntime) -> None:
    envs = make(3)
    errors = iter([StartFailed("no room")])

    def fault(method: str) -> None:
        if method == "boot" and (error := next(errors, None)):
            raise error

    fake.fault = fault
    seen, infos = envs.reset()
    assert seen in envs.observation_space
    (failed,) = np.flatnonzero(infos["status"] == "broken").tolist()
    _, rewards, terminated, truncated, infos = envs.step(["true\n"] * 3)
    assert np.flatnonzero(np.isnan(rewards)).tolist() == np.flatnonzero(truncated).tolist() == [failed]
    assert not terminated.any()
    assert "StartFailed: no room" in infos["reason"][failed]
    mask = np.arange(3) == failed
    assert envs.reset(options={"reset_mask": mask})[1]["status"][failed] == "running"


def test_none_that_starts_is_an_error(make: Make, fake: FakeRuntime) -> None:
    envs = make(2)

    def fault(method: str) -> None:
        raise StartFailed("no room")

    fake.fault = fault
    with pytest.raises(StartFailed):
        envs.reset()
    fake.fault = lambda method: None
    with pytest.raises(EpisodeNotRunning):
        envs.step(["ls\n"] * 2)


def test_a_bad_action_is_refused_before_any_is_typed(make: Make) -> None:
    envs = make(2)
    envs.reset()
    with pytest.raises(BadAction, match="environment 1"):
        envs.step(["touch out.txt\n", "\ud800"])
    with pytest.raises(BadAction):
        envs.step("ls\n")  # type: ignore[arg-type]
    with pytest.raises(BadAction):
        envs.step(["ls\n"])
    assert envs.step([SUBMIT, SUBMIT])[1].tolist() == [0.0, 0.0]


def test_statistics_of_gymnasium(make: Make) -> None:
    envs = RecordEpisodeStatistics(make(2, max_episode_steps=2))
    envs.reset()
    envs.step(["touch out.txt\n", "true\n"])
    _, rewards, _, truncated, infos = envs.step(["true\n", "true\n"])
    assert (rewards.tolist(), truncated.tolist()) == ([1.0, 0.0], [True, True])
    assert infos["episode"]["r"].tolist() == [1.0, 0.0]
    assert infos["episode"]["l"].tolist() == [2, 2]
    envs.reset(options={"reset_mask": np.array([True, False])})
    envs.step(["true\n", None])


@pytest.mark.parametrize(
    "mask", [[True, False], np.array([1, 0]), np.array([False, False]), np.array([True])], ids=str
)
def test_a_bad_mask_is_refused(make: Make, mask: object) -> None:
    envs = make(2)
    envs.reset()
    with pytest.raises(BadSetting):
        envs.reset(options={"reset_mask": mask})


def test_make_vec_on_real_sandboxes(any_runtime: Runtime) -> None:
    any_runtime.build(read_folder(HELLO).image)
    (id,) = register(HELLO, namespace="TestVector")
    envs = gymnasium.make_vec(
        id, num_envs=3, vectorization_mode="vector_entry_point", runtime=any_runtime, action_mode="bash"
    )
    try:
        assert isinstance(envs, ThreadVectorEnv)
        envs.reset(seed=0)
        seen, *_ = envs.step(["echo 0", "echo 1", "echo 2"])
        assert seen["output"] == ("0\n", "1\n", "2\n")
        solution = str(read_folder(HELLO).solution.script)  # type: ignore[union-attr]
        envs.step([solution, "true", solution])
        rewards = envs.step([SUBMIT] * 3)[1]
        assert rewards.tolist() == [1.0, 0.0, 1.0]
    finally:
        envs.close()
