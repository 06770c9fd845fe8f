from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kit.scripted_model import ScriptedModel
from kit.trajectories import DONE, trajectory

from terminal_gym.errors import BadSetting, SchemaMismatch
from terminal_gym.export.atif import as_atif
from terminal_gym.export.released import NOT_JUDGED, from_row, to_rows
from terminal_gym.export.rows import IGNORED, chats, preferences, tokens, whole
from terminal_gym.export.select import Gate, choose
from terminal_gym.llm.conversation import Conversation
from terminal_gym.trajectory.dialogue import Message, prompts
from terminal_gym.trajectory.record import Action, Observation, Step, Trajectory
from terminal_gym.trajectory.store import Row, Run, RunWriter


def with_turns(*turns: object) -> Trajectory:
    action = Action(turns=tuple(turns))  # type: ignore[arg-type]
    return replace(trajectory(turns=0), steps=(Step(action, Observation("", "", (0, 0)), 0.0, 1.0),))


def rewritten() -> Trajectory:
    """Return a trajectory whose history was rewritten once, with a summary before that."""
    talk = Conversation(ScriptedModel("one", "two", "SUMMARY", "three"))
    talk.ask(Message("user", "task"))
    talk.ask(Message("user", "more"))
    talk.aside(*talk.messages, Message("user", "sum up"))
    talk.rewrite([Message("user", "task")])
    talk.ask(Message("user", "go on"))
    return with_turns(*talk.take_turns())


def test_a_chat() -> None:
    (row,) = chats(trajectory(turns=3))
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"] * 3
    assert row["messages"][1]["content"] == DONE
    assert (row["task"], row["status"], row["reward"]) == ("TerminalTraj/made-up", "passed", 1.0)


def test_a_rewritten_history_is_another_row() -> None:
    first, second = chats(rewritten())
    assert [message["content"] for message in first["messages"]] == ["task", "one", "more", "two"]
    assert [message["content"] for message in second["messages"]] == ["task", "go on", "three"]


def test_token_ids_are_those_that_were_sampled() -> None:
    played = trajectory(turns=4)
    (row,) = tokens(played)
    *_, last = prompts(played.turns)
    assert tuple(row["input_ids"]) == (*last.ids, *last.turn.output_ids)
    spoken = [number for turn in played.turns for number in turn.output_ids]
    assert [label for label in row["labels"] if label != IGNORED] == spoken
    assert len(row["input_ids"]) == len(row["labels"]) == len(row["logprobs"]) == 4 * 5
    assert all(
        (label == IGNORED) == (logprob == 0.0)
        for label, logprob in zip(row["labels"], row["logprobs"], strict=True)
    )


def test_ids_that_are_not_a_prefix_begin_a_row_and_the_shared_ones_are_not_learned_twice() -> None:
    played = trajectory(turns=3)
    broken_off = replace(played.turns[2], kept_ids=4)
    rows = list(tokens(with_turns(*played.turns[:2], broken_off)))
    assert [len(row["input_ids"]) for row in rows] == [10, 9]
    assert rows[1]["input_ids"][:4] == rows[0]["input_ids"][:4]
    assert rows[1]["labels"][:4] == [IGNORED] * 4


def test_without_ids_there_are_no_tokens() -> None:
    with pytest.raises(BadSetting, match="has no token ids"):
        list(tokens(trajectory(ids=False)))


def test_pairs() -> None:
    attempts = [trajectory("TerminalTraj/a", k, status=status, seed=0) for k, status in  # type: ignore[arg-type]
                enumerate(["passed", "passed", "failed", "broken", "failed", "failed"])]  # fmt: skip
    same = [replace(one, steps=(_same_first(one.steps[0]), *one.steps[1:])) for one in attempts]
    rows = list(preferences(same))
    assert len(rows) == 2
    for row in rows:
        assert [message["role"] for message in row["prompt"]] == ["user"]
        assert row["chosen"][0]["role"] == row["rejected"][0]["role"] == "assistant"
        assert row["chosen"] != row["rejected"]


def _same_first(step: Step) -> Step:
    turn = replace(step.action.turns[0], messages=(Message("user", "Make it."),))
    return replace(step, action=replace(step.action, turns=(turn,)))


def test_one_row_an_attempt() -> None:
    (row,) = whole(trajectory(turns=2))
    assert [action["typed"] for action in row["actions"]] == ["ls\n", "ls\n"]
    assert len(row["messages"]) == 4
    assert row["checks"] == [{"id": "test_outputs.py::test_made", "outcome": "passed"}]


# ── the released form ───────────────────────────────────────────────────────────────────────────


def test_released_rows_come_back() -> None:
    played = trajectory(turns=3)
    (row,) = to_rows(played)
    assert list(row) == ["messages"]
    back = from_row(row, number=7)
    assert (back.attempt, back.outcome.reason, back.outcome.reward) == (7, NOT_JUDGED, None)
    assert [step.action.keys for step in back.steps] == [(b"ls\n",)] * 3
    assert list(to_rows(back)) == [row]


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"messages": []},
        {"messages": "text"},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "king", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x"}]},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"messages": ["x"]},
    ],
)
def test_what_is_no_released_row(row: dict[str, object]) -> None:
    with pytest.raises(SchemaMismatch, match="row 3"):
        from_row(row, number=3)


# ── ATIF ────────────────────────────────────────────────────────────────────────────────────────

STEP = {
    *(
        "step_id",
        "timestamp",
        "source",
        "message",
        "observation",
        "is_copied_context",
        "llm_call_count",
        "extra",
    ),
    *("model_name", "reasoning_effort", "reasoning_content", "tool_calls", "metrics"),
}
METRICS = {
    *("prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd"),
    *("prompt_token_ids", "completion_token_ids", "logprobs", "extra"),
}


@pytest.mark.parametrize(
    "played", [trajectory(turns=3), trajectory(turns=0), rewritten(), trajectory(agent="oracle")]
)
def test_atif_has_the_fields_of_the_format_and_no_others(played: Trajectory) -> None:
    told = json.loads(json.dumps(as_atif(played), allow_nan=False))
    assert told["schema_version"] == "ATIF-v1.8"
    assert [step["step_id"] for step in told["steps"]] == list(range(1, len(told["steps"]) + 1))
    assert told["final_metrics"]["total_steps"] == len(told["steps"]) >= 1
    for step in told["steps"]:
        assert step.keys() <= STEP
        assert step["source"] in ("system", "user", "agent")
        assert step.get("metrics", {}).keys() <= METRICS
        ids = {call["tool_call_id"] for call in step.get("tool_calls", ())}
        assert all(result.get("source_call_id", next(iter(ids), "")) in ids | {""} for result in
                   step.get("observation", {}).get("results", ()))  # fmt: skip
        if step["source"] != "agent":
            assert step.keys() <= {"step_id", "source", "message"}
        if step.get("llm_call_count") == 0:
            assert "metrics" not in step
    assert told["final_metrics"]["total_completion_tokens"] == played.usage.completion_tokens


# ── the gate ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    folder: Path = tmp_path_factory.mktemp("select") / "run"
    with RunWriter(folder, {}) as run:
        run.append(trajectory())
    return Run(folder).rows[0]


def test_the_gate(row: Row) -> None:
    rows = [
        row,
        replace(row, attempt=1, status="failed"),
        replace(row, attempt=2, status="broken"),
        replace(row, attempt=3),
        replace(row, task="b", turns=99),
        replace(row, task="c", limit="the limit of 3 steps"),
    ]
    assert [one.attempt for one in choose(rows, Gate()).rows if one.task == row.task] == [0, 3]
    chosen = choose(rows, Gate(per_task=1, most_turns=50, cut_short=False))
    assert [one.key for one in chosen.rows] == [row.key]
    assert chosen.dropped == {
        "failed": 1,
        "broken": 1,
        "more than 1 of one task": 1,
        "more than 50 turns": 1,
        "cut short by a limit": 1,
    }
    assert {one.task for one in choose(rows, Gate(bands=("sometimes", "often"))).rows} == {row.task}
    with pytest.raises(BadSetting, match="no solve-rate band"):
        Gate(bands=("mostly",))
