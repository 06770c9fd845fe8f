"""The Gymnasium face: on a shell of this machine where that is enough, on every runtime where it is not."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec, registry
from gymnasium.utils.env_checker import check_env
from kit.fake_runtime import MISSING, FakeRuntime, FileValidator
from kit.folders import task_folder

from terminal_gym.env import SUBMIT, TerminalEnv
from terminal_gym.errors import (
    BadAction,
    BadSetting,
    EpisodeNotRunning,
    ImageMissing,
    SandboxError,
    SandboxLost,
    StartFailed,
    UnknownName,
    UsageError,
    ValidatorBroken,
)
from terminal_gym.sandbox.base import Runtime, Sandbox, SandboxSpec, shared_runtime
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.task import Limits, Task
from terminal_gym.trajectory.record import Action
from terminal_gym.validation.verdict import Verdict

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"
SHELLS = ("bash", "zsh", "dash", "ash")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return read_folder(task_folder(tmp_path))


@pytest.fixture
def fake() -> Iterator[FakeRuntime]:
    runtime = FakeRuntime()
    yield runtime
    left = len(runtime.held)
    runtime.close()
    assert not left, "an environment left its sandbox behind"


def made(task: Task | None, fake: FakeRuntime, **settings: Any) -> TerminalEnv:
    return TerminalEnv(
        task, runtime=fake, **{"validator": FileValidator(), "rows": 24, "cols": 80} | settings
    )


# ── Gymnasium ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["keys", "bash", "terminus"])
def test_gymnasiums_own_check_passes(task: Task, fake: FakeRuntime, mode: str) -> None:
    def entry(**settings: Any) -> TerminalEnv:
        return made(task, fake, action_mode=mode, **settings)

    registry["Test/Checked"] = EnvSpec(
        "Test/Checked",
        entry_point=entry,
        nondeterministic=True,
        order_enforce=False,
        disable_env_checker=True,
    )
    try:
        with gymnasium.make("Test/Checked", render_mode="ansi") as env:
            check_env(env.unwrapped)
    finally:
        del registry["Test/Checked"]


def test_an_episode_passes_and_pays_once(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake) as env:
        seen, info = env.reset(seed=1)
        assert (info["instruction"], info["status"], info["steps"]) == (task.instruction, "running", 0)
        seen, reward, terminated, truncated, info = env.step("touch out.txt\n")
        assert (reward, terminated, truncated) == (0.0, False, False)
        assert (info["settled_by"], int(seen["exit_code"])) == ("prompt", 0)
        seen, reward, terminated, truncated, info = env.step(SUBMIT)
        assert (reward, terminated, truncated, info["status"]) == (1.0, True, False, "passed")
        assert info["checks"] == [{"id": "test_outputs.py::test_out", "outcome": "passed"}]
        assert not fake.held  # the sandbox goes with the verdict
        assert seen in env.observation_space


def test_nothing_done_is_failed(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake) as env:
        env.reset()
        assert env.step(SUBMIT)[1:4] == (0.0, True, False)
        assert env.verdict is not None
        assert env.verdict.reason == "checks"


@pytest.mark.parametrize(
    "text", ["\\xff\\xfe", "\\xf0\\x9f\\x98\\x80", "\\xed\\xa0\\x80", "e\\xcc\\x81" * 50]
)
def test_whatever_is_printed_lies_in_the_space(task: Task, fake: FakeRuntime, text: str) -> None:
    with made(task, fake) as env:
        env.reset()
        seen = env.step(f"printf '{text}'\n")[0]
        assert seen in env.observation_space
        seen["output"].encode()
        seen["screen"].encode()


def test_long_output_is_bounded(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake, output_limit=500) as env:
        env.reset()
        seen = env.step("seq 100000\n")[0]
        assert seen in env.observation_space
        assert len(seen["output"]) < 700
        assert "left out" in seen["output"]


def test_render(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake, render_mode="ansi") as env:
        env.reset()
        env.step("echo se''en\n")
        assert "\nseen" in env.render()
    with made(task, fake, render_mode="rgb_array") as env:
        env.reset()
        blank = env.render()
        env.step("printf '\\033[41mred\\033[0m'\n")
        shown = env.render()
        assert (shown.dtype, shown.shape, shown.ndim) == (np.uint8, blank.shape, 3)
        assert (shown != blank).any()
        env.step(SUBMIT)
        assert env.render().shape == blank.shape


def test_pixels_without_pillow_are_refused(
    task: Task, fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made(task, fake, render_mode="rgb_array") as env:
        env.reset()
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(BadSetting, match="terminal-gym\\[render\\]"):
            env.render()


# ── modes ───────────────────────────────────────────────────────────────────────────────────────


def test_keys_are_typed_by_name(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake) as env:
        env.reset()
        assert env.step("cat\n")[4]["settled_by"] == "reader"
        assert "typed\ntyped" in env.step("typed\n")[0]["output"]
        assert env.step("C-d")[4]["settled_by"] == "prompt"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("command", "output", "code"),
    [
        ("echo hi", "hi\n", 0),
        ("false", "", 1),
        ("(exit 7)", "", 7),
        ("printf 'no newline'", "no newline", 0),
        ("echo one\necho two", "one\ntwo\n", 0),
        ("cat <<'E'\n\ttab $HOME \\ \"q\" %s ü\nE", "\ttab $HOME \\ \"q\" %s ü\n", 0),
        ("for i in 1 2; do\n  echo n$i\ndone\n", "n1\nn2\n", 0),
        ("echo 'hi!' \"there!!\"", "hi! there!!\n", 0),
        ("printf %s '" + "x" * 5000 + "' | wc -c", "5000\n", 0),
        ("-no", None, 127),
        ("echo 'open", None, None),
    ],
)  # fmt: skip
def test_bash_gives_output_and_exit_code(
    task: Task, fake: FakeRuntime, shell: str, command: str, output: str | None, code: int | None
) -> None:
    fake.shell = shell
    with made(task, fake, action_mode="bash") as env:
        env.reset()
        seen, _, _, _, info = env.step(command)
        assert info["settled_by"] == "prompt"
        if output is not None:
            assert seen["output"].lstrip(" ") == output
        assert int(seen["exit_code"]) == code if code is not None else int(seen["exit_code"]) > 0
        assert env.step("echo again")[0]["output"] == "again\n"


def test_a_command_that_outlived_its_step_may_have_ended_before_the_next(
    task: Task, fake: FakeRuntime
) -> None:
    with made(task, fake, action_mode="bash", step_s=0.2) as env:
        env.reset()
        _, _, _, _, info = env.step("sleep 0.5")
        assert info["settled_by"] == "deadline"
        env.session.wait(lambda quiet_s: env.session.is_at_prompt(), deadline_s=10)
        observation, *_ = env.step("echo hi; (exit 3)")
        assert (observation["output"], observation["exit_code"]) == ("hi\n", 3)


def test_bash_answers_a_program_that_waits(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake, action_mode="bash", step_s=0.3) as env:
        env.reset()
        seen, _, _, _, info = env.step("read line")
        assert (info["settled_by"], int(seen["exit_code"])) == ("reader", -1)
        assert env.step("an answer")[4]["settled_by"] == "prompt"
        assert env.step("echo $line")[0]["output"] == "an answer\n"
        assert env.step("sleep 60")[4]["settled_by"] == "deadline"
        assert int(env.step("C-c")[0]["exit_code"]) == 130


def reply(*commands: dict[str, object], complete: bool = False) -> str:
    return json.dumps({"analysis": "", "plan": "", "commands": commands, "task_complete": complete})


def test_terminus_runs_a_batch_and_submits(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake, action_mode="terminus") as env:
        env.reset()
        batch = (
            {"keystrokes": "echo o''ne\n", "duration": 5},
            {"keystrokes": "touch out.txt\n", "duration": 5},
        )
        seen, _, terminated, _, _ = env.step(reply(*batch))
        assert ("one" in seen["output"], seen["complaint"], terminated) == (True, "", False)
        assert env.step(reply(complete=True))[1:4] == (1.0, True, False)


def test_terminus_waits_with_empty_keystrokes(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake, action_mode="terminus") as env:
        env.reset()
        env.step(reply({"keystrokes": "(sleep 0.2; echo la''te) &\n", "duration": 5}))
        seen = env.step(reply({"keystrokes": "", "duration": 0.6}))[0]
        assert "late" in seen["output"]
        assert "sleep" not in seen["output"]  # only what is new


def test_terminus_tells_the_model_what_is_wrong(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake, action_mode="terminus") as env:
        env.reset()
        seen, reward, terminated, truncated, info = env.step("I would rather talk.")
        assert (reward, terminated, truncated, info["steps"]) == (0.0, False, False, 1)
        assert "No valid JSON" in seen["complaint"]


# ── the end ─────────────────────────────────────────────────────────────────────────────────────


def test_the_shells_death_is_judged(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake) as env:
        env.reset()
        _, reward, terminated, truncated, info = env.step("touch out.txt; kill -9 $$\n")
        assert (reward, terminated, truncated) == (1.0, True, False)
        assert (info["settled_by"], info["status"]) == ("closed", "passed")


def test_the_time_limit_ends_a_step_and_is_judged(task: Task, fake: FakeRuntime) -> None:
    short = replace(task, limits=Limits(agent_s=0.3))
    with made(short, fake) as env:
        env.reset()
        _, reward, terminated, truncated, info = env.step("touch out.txt; sleep 60\n")
        assert (reward, terminated, truncated) == (1.0, False, True)
        assert "0.3 s" in info["limit"]


def test_what_comes_too_late_is_not_carried_out(task: Task, fake: FakeRuntime) -> None:
    with made(replace(task, limits=Limits(agent_s=1e-6)), fake) as env:
        env.reset()
        seen, reward, terminated, truncated, _ = env.step("touch out.txt\n")
        assert (reward, terminated, truncated) == (0.0, False, True)
        assert "not carried out" in seen["complaint"]


@pytest.mark.parametrize(("of_task", "of_env"), [(2, None), (None, 2), (5, 2)])
def test_the_step_limit_is_judged(
    task: Task, fake: FakeRuntime, of_task: int | None, of_env: int | None
) -> None:
    with made(replace(task, limits=Limits(steps=of_task)), fake, max_steps=of_env) as env:
        env.reset()
        assert env.step("touch out.txt\n")[1:4] == (0.0, False, False)
        assert env.step("true\n")[1:4] == (1.0, False, True)


def test_submitting_with_the_last_step_terminates(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake, max_steps=1) as env:
        env.reset()
        assert env.step(SUBMIT)[1:4] == (0.0, True, False)


# ── faults ──────────────────────────────────────────────────────────────────────────────────────


class Breaks:
    """Fails in one method, as a dying daemon would."""

    def __init__(self, method: str, error: Exception):
        self.method, self.error = method, error

    def __call__(self, method: str) -> None:
        if method == self.method:
            raise self.error


@pytest.mark.parametrize("method", ["start", "boot"])
def test_a_fault_in_reset_is_raised_and_leaves_nothing(task: Task, fake: FakeRuntime, method: str) -> None:
    with made(task, fake) as env:
        fake.fault = Breaks(method, StartFailed("no room"))
        with pytest.raises(StartFailed):
            env.reset()
        assert not fake.held
        with pytest.raises(EpisodeNotRunning):
            env.step("ls\n")
        fake.fault = lambda method: None
        env.reset()


def test_a_lost_machine_is_broken_and_never_zero(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake) as env:
        env.reset()
        fake.fault = Breaks("stop", SandboxLost("the daemon is gone"))
        _, reward, terminated, truncated, info = env.step(SUBMIT)
        assert math.isnan(reward)
        assert (terminated, truncated, info["status"]) == (False, True, "broken")
        assert info["reason"] == "SandboxLost: the daemon is gone"
        assert env.verdict is not None
        assert env.verdict.reward() is None
        with pytest.raises(EpisodeNotRunning):
            env.step("ls\n")
        fake.fault = lambda method: None
        env.reset()


def test_on_broken_raise(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake, on_broken="raise") as env:
        env.reset()
        fake.fault = Breaks("stop", SandboxLost("the daemon is gone"))
        with pytest.raises(SandboxLost):
            env.step(SUBMIT)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("the supervisor bad_tests: x", ValidatorBroken), ("RuntimeUnavailable: x", SandboxLost)],
)
def test_a_broken_verdict_says_who_is_to_blame(
    task: Task, fake: FakeRuntime, reason: str, kind: type[Exception]
) -> None:
    class Helpless:
        def judge(self, sandbox: Sandbox, task: Task, *, runtime: Runtime) -> Verdict:
            return Verdict("broken", "restart", reason)

    with made(task, fake, on_broken="raise", validator=Helpless()) as env:
        env.reset()
        with pytest.raises(kind):
            env.step(SUBMIT)


def test_a_missing_image_says_what_to_build(task: Task, fake: FakeRuntime) -> None:
    missing = replace(task, image=replace(task.image, name=MISSING))
    with made(missing, fake) as env, pytest.raises(ImageMissing, match="tgym images build"):
        env.reset()


# ── the caller's faults ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "action",
    [
        None, 3, b"ls\n", ["ls\n"], "\ud800", "x" * 50_000_000,
        Action(keys=("ls",)),  # type: ignore[arg-type]
        Action(keys=(b"x" * 50_000_000,)), Action(command="\udfff"), Action(wait_s=-1.0),
        Action(wait_s=math.nan), Action(keys=(b"a", b"b"), waits_s=(1.0,)),
    ],
    ids=lambda action: str(action)[:20],
)  # fmt: skip
def test_a_bad_action_is_refused_and_the_episode_goes_on(
    task: Task, fake: FakeRuntime, action: object
) -> None:
    with made(task, fake) as env:
        env.reset()
        with pytest.raises(BadAction):
            env.step(action)  # type: ignore[arg-type]
        assert env.step("echo on\n")[4]["steps"] == 1


def test_step_before_reset_and_after_the_end(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake) as env:
        with pytest.raises(EpisodeNotRunning, match="reset"):
            env.step("ls\n")
        env.reset()
        env.step(SUBMIT)
        with pytest.raises(EpisodeNotRunning, match="over"):
            env.step("ls\n")
        env.close()
        env.close()
        with pytest.raises(EpisodeNotRunning):
            env.step("ls\n")


def test_a_second_reset_closes_the_first_sandbox(task: Task, fake: FakeRuntime) -> None:
    with made(task, fake) as env:
        env.reset()
        env.step("touch out.txt\n")
        env.reset()
        assert (fake.started, len(fake.held)) == (2, 1)
        assert env.step(SUBMIT)[1] == 0.0  # nothing of the first is in the second


@pytest.mark.parametrize(
    "settings",
    [
        {"action_mode": "vim"}, {"render_mode": "human"}, {"on_broken": "ignore"}, {"rows": 0}, {"cols": -1},
        {"step_s": math.nan}, {"output_limit": 0}, {"max_steps": 0}, {"runtime": "dokcer"}, {"rows": "40"},
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_setting_is_refused(task: Task, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TerminalEnv(task, **{"runtime": FakeRuntime()} | settings)


# ── many tasks ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return [str(task_folder(tmp_path, name=f"task_{n}")) for n in range(5)]


def test_the_seed_picks_the_task(folders: list[str], fake: FakeRuntime) -> None:
    def picked(seed: int) -> list[str]:
        with made(None, fake, manifest=folders) as env:
            return [env.reset(seed=seed)[1]["task"], *(env.reset()[1]["task"] for _ in range(4))]

    assert picked(3) == picked(3)
    assert len({*picked(0), *picked(1), *picked(2)}) > 1


def test_options_pick_the_task(folders: list[str], fake: FakeRuntime) -> None:
    with made(None, fake, manifest=folders) as env:
        assert env.reset(options={"task": folders[2]})[1]["task"] == "TerminalTraj/task_2"
        with pytest.raises(UnknownName):
            env.reset(options={"task": "task_9"})
        with pytest.raises(UnknownName):
            env.reset(options={"tsak": folders[2]})


def test_a_task_or_a_manifest(task: Task) -> None:
    with pytest.raises(BadSetting):
        TerminalEnv(runtime=FakeRuntime())
    with pytest.raises(BadSetting):
        TerminalEnv(task, manifest=["x"], runtime=FakeRuntime())


# ── real sandboxes ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hello(any_runtime: Runtime) -> Task:
    task = read_folder(HELLO)
    any_runtime.build(task.image)
    return task


def test_a_real_episode(any_runtime: Runtime, hello: Task) -> None:
    with TerminalEnv(hello, runtime=any_runtime, action_mode="bash") as env:
        assert env.reset()[0] in env.observation_space
        assert hello.solution is not None
        seen = env.step(str(hello.solution.script))[0]
        assert int(seen["exit_code"]) == 0, seen["output"]
        _, reward, terminated, _, info = env.step(SUBMIT)
        assert (reward, terminated, info["status"]) == (1.0, True, "passed"), info
        env.reset()
        assert env.step(SUBMIT)[1] == 0.0


@pytest.fixture
def judges(any_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was started beside the agents' machines, in order."""
    started: list[str] = []
    start = any_runtime.start

    def noted(spec: SandboxSpec) -> Sandbox:
        if spec.name.startswith("judge-"):
            started.append(spec.name)
        return start(spec)

    monkeypatch.setattr(any_runtime, "start", noted)
    return started


def test_a_judge_made_ahead_serves_one_episode(any_runtime: Runtime, hello: Task, judges: list[str]) -> None:
    with TerminalEnv(hello, runtime=any_runtime, action_mode="bash", judge_ahead=True) as env:
        env.reset()
        assert hello.solution is not None
        env.step(str(hello.solution.script))
        _, reward, _, _, info = env.step(SUBMIT)
        assert (reward, info["status"], len(judges)) == (1.0, "passed", 1), info
        env.reset()
        assert env.step(SUBMIT)[1] == 0.0, "the second episode is judged by what the first one left"
        env.reset()  # ends without a verdict: its judge goes all the same
    assert len(judges) == 3
    assert len(set(judges)) == 3


def test_no_judge_is_made_ahead_of_a_verdict_on_the_agents_own_machine(
    any_runtime: Runtime, hello: Task, judges: list[str]
) -> None:
    restarted = replace(hello, validator=replace(hello.validator, mode="restart", artifacts=()))
    with TerminalEnv(restarted, runtime=any_runtime, judge_ahead=True) as env:
        env.reset()
        assert env.step(SUBMIT)[4]["status"] == "failed"
    assert judges == []


def test_a_judge_whose_machine_does_not_start_is_made_again(
    any_runtime: Runtime, hello: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refused = any_runtime.start, list[str]()

    def once_not(spec: SandboxSpec) -> Sandbox:
        if spec.name.startswith("judge-") and not refused:
            refused.append(spec.name)
            raise StartFailed("no room just now")
        return start(spec)

    monkeypatch.setattr(any_runtime, "start", once_not)
    with TerminalEnv(hello, runtime=any_runtime, judge_ahead=True) as env:
        env.reset()
        assert env.step(SUBMIT)[4]["status"] == "failed"
    assert len(refused) == 1


def test_a_judge_that_died_while_it_waited_is_made_again(
    any_runtime: Runtime, hello: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, made = any_runtime.start, list[Sandbox]()

    def kept(spec: SandboxSpec) -> Sandbox:
        sandbox = start(spec)
        if spec.name.startswith("judge-"):
            made.append(sandbox)
        return sandbox

    monkeypatch.setattr(any_runtime, "start", kept)
    with TerminalEnv(hello, runtime=any_runtime, judge_ahead=True, action_mode="bash") as env:
        env.reset()
        assert hello.solution is not None
        env.step(str(hello.solution.script))
        assert env._coming is not None
        env._coming.get()
        made[0].stop()  # as the kernel would, short of memory
        _, reward, _, _, info = env.step(SUBMIT)
        assert (reward, info["status"]) == (1.0, "passed"), info


def test_a_real_shells_death_is_judged(any_runtime: Runtime, hello: Task) -> None:
    with TerminalEnv(hello, runtime=any_runtime) as env:
        env.reset()
        _, reward, terminated, truncated, info = env.step("kill -9 $$\n")
        assert (reward, terminated, truncated, info["status"]) == (0.0, True, False, "failed"), info


@pytest.mark.docker
def test_a_sandbox_that_vanishes_is_broken(docker_runtime: Runtime) -> None:
    task = read_folder(HELLO)
    docker_runtime.build(task.image)
    with TerminalEnv(task, runtime=docker_runtime) as env:
        env.reset()
        env.sandbox.close()  # as somebody's `docker rm -f` would
        _, reward, terminated, truncated, info = env.step("ls\n")
        assert math.isnan(reward)
        assert (terminated, truncated, info["status"]) == (False, True, "broken")


def test_a_runtime_is_shared_by_name() -> None:
    try:
        assert shared_runtime("auto") is shared_runtime(shared_runtime("auto").name)
    except (SandboxError, ImportError) as error:
        pytest.skip(str(error))
