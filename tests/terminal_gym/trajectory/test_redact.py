import base64
import itertools
import re
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from kit.trajectories import trajectory

from terminal_gym.trajectory.dialogue import Message
from terminal_gym.trajectory.record import Frame, Trajectory
from terminal_gym.trajectory.redact import Redactor, known_secrets
from terminal_gym.trajectory.store import Run, RunWriter

SECRET = "sk-live-4711+secret/of=mine"
CLEAN = Redactor([SECRET])


def _with(data: bytes, cuts: list[int]) -> Trajectory:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    frames = [Frame(0.1 * n, "out", data[a:b]) for n, (a, b) in enumerate(itertools.pairwise(edges))]
    between = [frame for one in frames for frame in (one, Frame(one.at_s, "in", b"x"))]
    return replace(trajectory(), frames=tuple(between))


@given(
    before=st.binary(max_size=20), after=st.binary(max_size=20), cuts=st.lists(st.integers(0, 80), max_size=6)
)
def test_split_over_chunks(before: bytes, after: bytes, cuts: list[int]) -> None:
    data = before + SECRET.encode() + after
    cleaned = CLEAN.trajectory(_with(data, cuts))
    out = b"".join(frame.data for frame in cleaned.frames if frame.direction == "out")
    assert SECRET.encode() not in out
    assert len(out) == len(data)


@given(before=st.binary(max_size=7), after=st.binary(max_size=7), url=st.booleans())
def test_in_base64_at_any_alignment(before: bytes, after: bytes, url: bool) -> None:
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    text = encode(before + SECRET.encode() + after).decode()
    decode = base64.urlsafe_b64decode if url else base64.b64decode
    cleaned = CLEAN.bytes(text.encode()).decode()
    assert len(cleaned) == len(text)
    assert SECRET.encode() not in decode(cleaned.replace("*", "A"))
    assert cleaned.count("*") >= len(SECRET)


def test_coloured_and_wrapped() -> None:
    half = len(SECRET) // 2
    coloured = "".join(f"\x1b[3{n % 8}m{char}\x1b[0m" for n, char in enumerate(SECRET))
    titled = f"{SECRET[:half]}\x1b]0;title\x07{SECRET[half:]}"
    wrapped = f"{SECRET[:half]}\r\n{SECRET[half:]}"
    for text in (coloured, titled, wrapped):
        left = re.sub(
            rb"^\x1b\[3\dm|\x1b\[0m$", b"", CLEAN.bytes(text.encode())
        )  # before the first, after the last
        assert set(left) == {ord("*")}


def test_what_is_no_secret_stays() -> None:
    played = trajectory()
    assert CLEAN.trajectory(played) is played
    assert Redactor(["", "short"]).bytes(b"short") == b"short"


def test_no_field_of_a_stored_record_holds_it(tmp_path: Path) -> None:
    played = trajectory()
    step = played.steps[0]
    turn_text = f"the key is {SECRET}"
    dirty = replace(
        played,
        instruction=turn_text,
        failures=(turn_text,),
        versions={"x": turn_text},
        outcome=replace(played.outcome, reason=turn_text),
        steps=(
            replace(
                step,
                action=replace(
                    step.action,
                    keys=(SECRET.encode(),),
                    text=turn_text,
                    turns=tuple(
                        replace(turn, messages=(Message("user", turn_text),)) for turn in step.action.turns
                    ),
                ),
                observation=replace(step.observation, screen=turn_text, output=turn_text),
            ),
        ),
    )
    with RunWriter(tmp_path / "run", {}, secrets=[SECRET]) as run:
        run.append(dirty)
    (stored,) = Run(tmp_path / "run")
    assert SECRET not in str(stored)
    assert stored.instruction == "the key is " + "*" * len(SECRET)
    assert any(turn.output_ids for turn in played.turns)
    assert not any(turn.output_ids or turn.prompt_ids for turn in stored.turns), (
        "ids spell what was taken out"
    )
    assert stored.steps[0].action.keys == (b"*" * len(SECRET),)
    assert not [path for path in (tmp_path / "run").iterdir() if SECRET.encode() in path.read_bytes()]


def test_which_variables_hold_secrets() -> None:
    env = {"OPENAI_API_KEY": "a", "HF_TOKEN": "b", "PATH": "c", "DB_PASSWORD": "d", "KEYBOARD": "e"}
    assert set(known_secrets(env)) == {"a", "b", "d"}
