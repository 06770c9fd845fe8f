from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from terminal_gym.errors import BadSetting, SandboxError
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.tasks.catalogue import read_folder
from training.tool_env import TerminalTools, close_terminals, open_terminals

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"


@pytest.fixture
def tools() -> Iterator[type[TerminalTools]]:
    runtime, task = open_runtime("namespace"), read_folder(HELLO)
    try:
        runtime.check()
        runtime.build(task.image)
    except SandboxError as error:
        runtime.close()
        pytest.skip(f"namespace: {error}")
    gone = replace(task, image=replace(task.image, name="tgym-test/never-built:1"))
    yield open_terminals({"hello": task, "gone": gone}, runtime)
    close_terminals()
    runtime.close()


def test_an_episode_through_the_trainers_eyes(tools: type[TerminalTools]) -> None:
    env, other = tools(), tools()
    assert env.reset(task="hello", prompt=[]).startswith("Write the file /app/greeting.txt")
    assert env.run("echo one; false") == "one\n\n[exit code 1]"
    env.run("printf 'hello, world\\n500500\\n' > /app/greeting.txt")
    assert env.get_reward() == 1.0
    assert env.get_reward() == 1.0
    assert "lost" in env.run("true")
    env.reset(task="hello")
    assert env.get_reward() == 0.0
    other.reset(task="gone")
    assert "lost" in other.run("true")
    assert other.get_reward() is None
    env.reset(task="hello")  # left open: close_terminals removes it, and the session's fixture looks
    with pytest.raises(BadSetting, match="are open"):
        open_terminals({}, open_runtime("namespace"))


def test_the_policy_may_call_one_tool_and_no_other() -> None:
    from transformers.utils import get_json_schema

    public = {name for name, _ in inspect.getmembers(TerminalTools, callable) if not name.startswith("_")}
    assert public == {"reset", "run", "get_reward"}
    schema = get_json_schema(TerminalTools.run)["function"]
    assert (schema["name"], schema["parameters"]["required"]) == ("run", ["command"])
