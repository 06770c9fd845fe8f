import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.trajectories import trajectory

from terminal_gym.errors import SchemaMismatch
from terminal_gym.trajectory.codec import from_json, from_object, to_json, to_object
from terminal_gym.trajectory.dialogue import Turn
from terminal_gym.trajectory.record import (
    Check,
    Frame,
    Graded,
    Observation,
    Outcome,
    StepOutcome,
    Trajectory,
)

TEXTS = st.text(st.characters(exclude_categories=[]))  # lone surrogates, NUL and all


def test_a_record_comes_back_as_it_was() -> None:
    played = trajectory(turns=4)
    assert from_json(Trajectory, to_json(played)) == played


@given(st.builds(Frame, at_s=st.floats(0, 1e6), direction=st.sampled_from(["in", "out"]), data=st.binary()))
def test_any_bytes_of_the_terminal(frame: Frame) -> None:
    assert from_json(Frame, to_json_of(frame)) == frame


def to_json_of(frame: Frame) -> bytes:
    return json.dumps(to_object(frame)).encode()


@given(st.builds(Observation, screen=TEXTS, output=TEXTS, cursor=st.tuples(st.integers(), st.integers())))
def test_any_text(seen: Observation) -> None:
    line = to_json(seen)
    assert line.isascii()
    assert b"\n" not in line
    assert from_json(Observation, line) == seen


@given(st.lists(st.floats()))
def test_any_number(logprobs: list[float]) -> None:
    turn = from_object(Turn, json.loads(json.dumps(to_object(_turn(tuple(logprobs))), allow_nan=False)))
    assert [x if not math.isnan(x) else None for x in turn.logprobs] == [
        x if not math.isnan(x) else None for x in logprobs
    ]


def _turn(logprobs: tuple[float, ...]) -> Turn:
    turn = trajectory(turns=1).turns[0]
    return Turn(turn.messages, turn.reply, logprobs=logprobs)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"attempt": "0"}, "'0' is no int"),
        ({"attempt": True}, "True is no int"),
        ({"steps": {}}, "is no list"),
        ({"outcome": {"status": "won", "reward": 1.0}}, "'won' is none of"),
        ({"outcome": {"reward": 1.0}}, "status"),
        ({"frames": [[0.1, "out"]]}, "Trajectory"),
    ],
)
def test_what_is_no_record(edit: dict[str, object], said: str) -> None:
    with pytest.raises(SchemaMismatch, match=said):
        from_object(Trajectory, to_object(trajectory()) | edit)


@pytest.mark.parametrize("line", [b"", b"nonsense", b"[" * 100_000, b"\xff", b"null"])
def test_what_is_no_json(line: bytes) -> None:
    with pytest.raises(SchemaMismatch):
        from_json(Trajectory, line)


def test_both_verdicts_on_an_episode_come_back() -> None:
    parity = Graded(
        "passed", 1.0, checks=(Check("test_outputs.py::test_a", "skipped"),), rewards={"reward": 1.0}
    )
    steps = (StepOutcome("first", parity=parity),)
    outcome = Outcome("failed", 0.0, "checks", beside=parity, notes=("shim: uv",), steps=steps)
    again = from_json(Outcome, to_json(outcome))
    assert again == outcome
    assert again.parity == parity
    assert again.strict is not None
    assert again.strict.status == "failed"
    swapped = Outcome("passed", 1.0, grading="parity", beside=Graded("broken", None, "network"))
    assert swapped.strict == Graded("broken", None, "network")
    assert Outcome("passed", 1.0).parity is None
