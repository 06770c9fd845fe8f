from __future__ import annotations

from pathlib import Path

import pytest
from kit.folders import task_folder
from kit.scripted_model import ScriptedModel

from terminal_gym.agents.bash import Bash
from terminal_gym.errors import BadSetting, ContextFull
from terminal_gym.llm.chat import Completion
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.dialogue import Message, ToolCall, prompts
from terminal_gym.trajectory.record import Observation


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return read_folder(task_folder(tmp_path))


def begun(task: Task, model: ScriptedModel, **settings: object) -> Bash:
    agent = Bash(model, **settings)  # type: ignore[arg-type]
    agent.begin(task)
    return agent


def seen(output: str = "", code: int | None = 0) -> Observation:
    return Observation("$", output, (0, 1), code, "prompt")


def block(command: str) -> str:
    return f"I look.\n```bash\n{command}\n```\nThen I go on."


def test_a_command_and_its_output(task: Task) -> None:
    model = ScriptedModel(block("ls -la"), block("for x in 1 2\ndo echo $x\ndone"), block("<submit>"))
    agent = begun(task, model)
    assert agent.act(seen()).command == "ls -la"
    assert agent.act(seen("a b\n")).command == "for x in 1 2\ndo echo $x\ndone"
    assert agent.act(seen("", None)).submit
    assert "Task:\nWrite /app/out.txt." in model.told[0]
    assert model.told[1] == "a b\n[exit code 0]"
    assert "exit code unknown" in model.told[2]


def test_a_brief_one_says_the_task_alone(task: Task) -> None:
    model = ScriptedModel(block("ls"))
    begun(task, model, brief=True).act(seen())
    assert model.told == [task.instruction]


@pytest.mark.parametrize(
    "text", ["```\nls\n```", "```sh\nls\n```", "```bash \nls\n```", "a\n```bash\nls\n```\n```bash\nrm x\n```"]
)
def test_blocks(task: Task, text: str) -> None:
    assert begun(task, ScriptedModel(text)).act(seen()).command == "ls"


def test_a_key(task: Task) -> None:
    assert begun(task, ScriptedModel(block("C-c"))).act(seen()).keys == (b"\x03",)


@pytest.mark.parametrize("text", ["ls", "```bash\n```", "```python\nprint()\n```", "`ls`", ""])
def test_no_command_is_said_and_asked_for_again(task: Task, text: str) -> None:
    model = ScriptedModel(text, block("ls"))
    action = begun(task, model).act(seen())
    assert action.command == "ls"
    assert len(action.turns) == 2
    assert model.told[1].startswith("There was no command")


def test_a_reply_that_was_cut_off_is_not_run(task: Task) -> None:
    cut = Completion(Message("assistant", block("rm -rf /")), finish="length")
    assert begun(task, ScriptedModel(cut, block("ls"))).act(seen()).command == "ls"


def test_only_the_submit_word(task: Task) -> None:
    assert begun(task, ScriptedModel("<submit>\n")).act(seen()).submit


# ── native calls ────────────────────────────────────────────────────────────────────────────────


def call(name: str, arguments: str, id: str = "c1") -> ToolCall:
    return ToolCall(id, name, arguments)


def calls(*made: ToolCall) -> Completion:
    return Completion(Message("assistant", "", made), finish="tool_calls")


def test_native_calls(task: Task) -> None:
    model = ScriptedModel(
        calls(call("bash", '{"command": "ls"}'), call("bash", '{"command": "rm x"}', "c2")),
        calls(call("submit", "")),
    )
    agent = begun(task, model, tools="native")
    assert agent.act(seen()).command == "ls"
    assert agent.act(seen("a\n")).submit
    assert [tool.name for tool in model.tools[0]] == ["bash", "submit"]
    first, second = model.asked[1][-2:]
    assert (first.role, first.tool_call_id, first.content) == ("tool", "c1", "a\n[exit code 0]")
    assert (second.tool_call_id, second.content) == ("c2", "Not carried out: one call a turn.")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (calls(call("bash", "{")), "not JSON"),
        (calls(call("bash", "[" * 100_000)), "not JSON"),
        (calls(call("bash", "[]")), "needs one argument"),
        (calls(call("bash", '{"command": 3}')), "needs one argument"),
        (calls(call("rm", "{}")), "no tool 'rm'"),
        ("just words", "no call of a tool"),
    ],
)
def test_wrong_calls(task: Task, said: Completion | str, told: str) -> None:
    model = ScriptedModel(said, calls(call("bash", '{"command": "ls"}')))
    assert begun(task, model, tools="native").act(seen()).command == "ls"
    assert told in model.told[1]


# ── room ────────────────────────────────────────────────────────────────────────────────────────


def test_the_oldest_outputs_are_dropped_first(task: Task) -> None:
    model = ScriptedModel(block("ls"), context_tokens=3_000)
    agent = begun(task, model)
    turns = [turn for _ in range(10) for turn in agent.act(seen("x" * 3_000)).turns]
    last = model.asked[-1]
    assert "Write /app/out.txt." in last[0].content
    assert last[-1].content.startswith("xxx")
    assert any("dropped" in message.content for message in last)
    assert [prompt.messages for prompt in prompts(turns)] == model.asked


def test_what_does_not_fit_is_given_up(task: Task) -> None:
    with pytest.raises(ContextFull):
        begun(task, ScriptedModel(block("ls"), context_tokens=50)).act(seen())


def test_wrong_settings() -> None:
    with pytest.raises(BadSetting, match="tools is 'both'"):
        Bash(ScriptedModel("x"), tools="both")  # type: ignore[arg-type]
