"""What the page gets of one trajectory."""

import json
from dataclasses import replace

import pytest
from kit.hostile import hostile
from kit.trajectories import trajectory

from terminal_gym.trajectory.record import Action, Frame, Observation, Step
from terminal_gym.viewer.episode import LONGEST_TEXT, cut, lead_s, readable, shown


def step(began_s: float, *keys: bytes, command: str | None = None) -> Step:
    return Step(Action(keys=keys, command=command), Observation("", "", (0, 0)), began_s, began_s + 0.5)


@pytest.mark.parametrize(
    ("steps", "lead"),
    [
        ((step(1.0, b"make\n"),), 41.0),
        ((step(0.5), step(1.0, b"", b"make\n")), 41.0),  # the first step only waited
        ((step(1.0, command="  make\nmake check\n"),), 41.0),  # typed inside our own words
        ((step(1.0, b"never typed"), step(2.0, b"make\n")), 40.0),
        ((step(1.0),), 44.5),  # nothing typed: the ends are one
        ((), 0.0),
    ],
)
def test_steps_and_recording_are_put_on_one_clock(steps: tuple[Step, ...], lead: float) -> None:
    frames = (
        Frame(1.0, "out", b"$ "),
        Frame(42.0, "in", b" x=1; make\n"),
        Frame(46.0, "out", b"$ "),
        Frame(float("nan"), "out", b""),
    )
    assert lead_s(replace(trajectory(), steps=steps, frames=frames)) == pytest.approx(lead)


def test_control_characters_can_be_seen() -> None:
    assert readable(b"ls\r:wq\n\x1b[A\x03\x7f\xff\tx") == "ls⏎\n:wq⏎\n␛[A␃␡�␉x"


def test_long_texts_lose_their_middle_and_say_so() -> None:
    text = cut("a" * LONGEST_TEXT + "b" * LONGEST_TEXT)
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    assert f"{LONGEST_TEXT} characters left out" in text
    assert len(text) < LONGEST_TEXT + 100
    assert cut("short") == "short"


def test_an_episode_is_json_whatever_is_in_it() -> None:
    told = shown(hostile())
    assert json.loads(json.dumps(told, allow_nan=False))["seconds"]["verify"] is None
    assert told["steps"][1]["at_s"] == pytest.approx(9.01, abs=0.02)
    assert told["recorded"]
    assert "screen" not in {name for name, value in told["steps"][0].items() if value}


def test_without_a_recording_there_are_screens() -> None:
    told = shown(replace(trajectory(), frames=()))
    assert not told["recorded"]
    assert told["steps"][0]["screen"].startswith("$ ls")
