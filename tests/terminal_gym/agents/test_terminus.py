from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.folders import task_folder
from kit.scripted_model import ScriptedModel

from terminal_gym.agents.agent import open_agent
from terminal_gym.agents.terminus import BAD_REPLIES, Terminus, clipped, new_text
from terminal_gym.errors import BadSetting, ContextFull
from terminal_gym.llm.chat import Completion
from terminal_gym.llm.terminus_xml import terminus_xml, usable_part
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.dialogue import Message, prompts
from terminal_gym.trajectory.record import Observation


def said(*keystrokes: str, done: bool = False) -> str:
    commands = [{"keystrokes": keys, "duration": 0.5} for keys in keystrokes]
    return json.dumps({"analysis": "a", "plan": "p", "commands": commands, "task_complete": done})


XML = """<response><analysis>a</analysis><plan>p</plan><commands>
<keystrokes duration="0.5">ls -la
</keystrokes><keystrokes duration="90">C-c</keystrokes></commands><task_complete>{done}</task_complete></response>"""


def seen(output: str = "", screen: str = "$") -> Observation:
    return Observation(screen, output, (0, 1), settled_by="prompt")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return read_folder(task_folder(tmp_path))


def begun(task: Task, model: ScriptedModel, **settings: object) -> Terminus:
    agent = Terminus(model, **settings)  # type: ignore[arg-type]
    agent.begin(task)
    return agent


def test_a_batch(task: Task) -> None:
    model = ScriptedModel(said("ls\n", "C-c"))
    agent = begun(task, model)
    action = agent.act(seen(screen="$ here"))
    assert (action.keys, action.waits_s, action.submit) == ((b"ls\n", b"\x03"), (0.5, 0.5), False)
    assert action.turns[0].reply.content == said("ls\n", "C-c")
    assert "Task:\nWrite /app/out.txt." in model.told[0]
    assert "Current Terminal Screen:\n$ here" in model.told[0]
    agent.act(seen("a  b\n$", "$ ls\na  b\n$"))
    assert model.told[1] == "New Terminal Output:\na  b\n$"


def test_done_is_asked_twice(task: Task) -> None:
    model = ScriptedModel(said("make\n", done=True), "no json at all", said(done=True))
    agent = begun(task, model)
    first = agent.act(seen())
    assert (first.keys, first.submit) == ((b"make\n",), False)
    last = agent.act(seen("ok\n$", "ok\n$"))
    assert last.submit
    assert model.told[1].startswith(
        "Current terminal state:\nNew Terminal Output:\nok\n$\n\nAre you sure you want to"
    )
    assert model.told[1].endswith('If so, include "task_complete": true in your JSON response again.')
    assert model.told[2].startswith("Previous response had parsing errors:\nERROR: No valid JSON found")
    assert len(last.turns) == 2


def test_another_batch_takes_it_back(task: Task) -> None:
    agent = begun(task, ScriptedModel(said(done=True), said("ls\n"), said(done=True), said(done=True)))
    assert [agent.act(seen()).submit for _ in range(4)] == [False, False, False, True]


def test_warnings_come_with_the_next_output(task: Task) -> None:
    model = ScriptedModel("Sure! " + said("ls\n"))
    agent = begun(task, model)
    agent.act(seen())
    agent.act(seen("x\n$", "x\n$"))
    assert model.told[1].startswith(
        "Previous response had warnings:\nWARNINGS: Extra text detected before JSON object"
    )
    assert model.told[1].endswith("New Terminal Output:\nx\n$")


def test_a_model_that_never_makes_sense_uses_up_one_step(task: Task) -> None:
    model = ScriptedModel("what?")
    action = begun(task, model).act(seen())
    assert (action.keys, action.submit, len(action.turns)) == ((), False, BAD_REPLIES)


def test_a_reply_that_was_cut_off(task: Task) -> None:
    cut = Completion(Message("assistant", said("rm -rf /\n")[:-5]), finish="length")
    model = ScriptedModel(cut, said("ls\n"))
    action = begun(task, model).act(seen())
    assert action.keys == (b"ls\n",)
    assert model.told[1].startswith("ERROR!! NONE of the actions you just requested were performed")


def test_the_last_episode_is_forgotten(task: Task) -> None:
    model = ScriptedModel(said(done=True))
    agent = begun(task, model)
    agent.act(seen())
    agent.begin(task)
    assert not agent.act(seen()).submit
    assert len(model.asked[-1]) == 1


# ── room ────────────────────────────────────────────────────────────────────────────────────────


def _answers(messages: object) -> str:
    text = messages[-1].content  # type: ignore[index]
    if "little room left" in text:
        return "SUMMARY"
    if "You take over" in text:
        return "QUESTIONS?"
    return "ANSWERS" if text == "QUESTIONS?" else said("ls\n")


def test_it_sums_up_when_room_is_short(task: Task) -> None:
    model = ScriptedModel(_answers, context_tokens=4_000)
    agent = begun(task, model)
    turns = [turn for _ in range(12) for turn in agent.act(seen("x" * 1500 + "\n$", "$")).turns]
    summaries = [turn for turn in turns if turn.purpose == "summary"]
    assert len(summaries) >= 3
    assert len(summaries) % 3 == 0
    assert any("SUMMARY" in messages[1].content and "ANSWERS" in messages[-1].content for messages in
               model.asked if len(messages) > 2)  # fmt: skip
    assert [prompt.messages for prompt in prompts(turns)] == model.asked
    assert max(map(model.count_tokens, model.asked)) <= 4_000


def test_it_sums_up_when_the_context_is_full(task: Task) -> None:
    model = ScriptedModel(_answers, context_tokens=4_000)
    agent = begun(task, model, room_tokens=0)
    for _ in range(12):
        assert agent.act(seen("x" * 3000 + "\n$", "$")).keys == (b"ls\n",)


def test_a_task_that_does_not_fit_is_given_up(task: Task) -> None:
    with pytest.raises(ContextFull):
        begun(task, ScriptedModel(said(), context_tokens=50)).act(seen())


# ── XML ─────────────────────────────────────────────────────────────────────────────────────────


def test_xml(task: Task) -> None:
    model = ScriptedModel(XML.format(done="false"), XML.format(done="true"))
    agent = begun(task, model, parser="xml")
    action = agent.act(seen())
    assert (action.keys, action.waits_s) == ((b"ls -la\n", b"\x03"), (0.5, 60.0))
    assert not agent.act(seen()).submit
    assert agent.act(seen()).submit
    assert model.told[2].endswith("include <task_complete>true</task_complete> again.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "ERROR: No <response> tag found"),
        ("<response></response>", "ERROR: Missing <commands> section"),
    ],
)
def test_xml_errors(text: str, said: str) -> None:
    read = terminus_xml(text)
    assert read.action is None
    assert said in read.complaint
    assert read.complaint.endswith("Please fix these issues and provide a proper response.")


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("Hi " + XML, "Extra text detected before"),
        (XML + " bye", "Extra text detected after"),
        (XML.replace("ls -la", "ls &amp;"), "entities are not decoded"),
        (XML.replace("<plan>p</plan>", ""), "Missing <plan>"),
        (XML.replace('"0.5"', '"soon"'), "missing or invalid duration"),
        (XML.replace("ls -la\n", "ls -la"), "should end with newline"),
        ("<response><commands></commands></response>", "section is empty"),
    ],
)
def test_xml_warnings(text: str, warning: str) -> None:
    read = terminus_xml(text)
    assert read.action is not None
    assert warning in read.complaint


def test_an_end_that_is_missing_is_no_fault() -> None:
    assert terminus_xml(XML.format(done="false").replace("</response>", "")).complaint == ""


def test_what_is_used_of_a_reply_that_was_cut_off(task: Task) -> None:
    whole = XML.format(done="false")
    assert usable_part(whole + " and then") == whole
    assert usable_part(whole[:-20]) == ""
    cut = Completion(Message("assistant", whole + " and then I"), finish="length")
    assert begun(task, ScriptedModel(cut), parser="xml").act(seen()).keys == (b"ls -la\n", b"\x03")


PIECES = (
    *("<", ">", "/", "&", ";", "\n", "\0", "\ud800", "C-c"),
    *("<response>", "</response>", "<commands>", "</commands>", "<keystrokes>", "</keystrokes>"),
    *('<keystrokes duration="nan">', "<task_complete>true</task_complete>"),
)
TAGS = st.lists(st.sampled_from(PIECES)).map("".join)


@given(TAGS | st.text())
def test_xml_never_raises(text: str) -> None:
    read = terminus_xml(text)
    assert read.action is not None or read.complaint
    if read.action is not None:
        assert all(0 <= wait_s <= 60 for wait_s in read.action.waits_s)
    usable_part(text)


# ── the rest ────────────────────────────────────────────────────────────────────────────────────


@given(st.text(), st.integers(2, 50))
def test_clipped(text: str, limit: int) -> None:
    short = clipped(text, limit)
    raw = text.encode("utf-8", "replace")
    assert short == text if len(raw) <= limit else "interior bytes omitted" in short


def test_a_full_screen_is_shown_whole() -> None:
    assert new_text(seen("~ ~ ~", '~\n~\n"file" 3L, 9B')).startswith("Current Terminal Screen:")
    assert new_text(seen("", "$ ")).startswith("Current Terminal Screen:")


def test_wrong_settings() -> None:
    with pytest.raises(BadSetting, match="parser is 'yaml'"):
        open_agent("terminus", model=ScriptedModel("x"), parser="yaml")
    with pytest.raises(BadSetting, match="missing a required argument: 'model'"):
        open_agent("terminus")
    with pytest.raises(BadSetting, match="colour"):
        open_agent("bash", model=ScriptedModel("x"), colour="red")
