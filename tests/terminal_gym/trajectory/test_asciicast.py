import itertools
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.trajectory import asciicast
from terminal_gym.trajectory.record import Frame


def cast(frames: list[Frame]) -> list[list[object]]:
    header, *events = map(json.loads, asciicast.lines(frames, rows=40, cols=160))
    assert (header["version"], header["width"], header["height"]) == (2, 160, 40)
    return events


def test_events_follow_the_format() -> None:
    frames = [Frame(0.5, "out", b"$ "), Frame(1.25, "in", b"ls\n"), Frame(2.0, "resize", b"80x24")]
    assert cast(frames) == [[0.5, "o", "$ "], [1.25, "i", "ls\n"], [2.0, "r", "80x24"]]


@given(text=st.text(), cuts=st.sets(st.integers(0, 40)))
def test_split_characters_stay_whole(text: str, cuts: set[int]) -> None:
    data = text.encode("utf-8", "replace")
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    frames = [Frame(i, "out", data[a:b]) for i, (a, b) in enumerate(itertools.pairwise(bounds))]
    assert "".join(str(event[2]) for event in cast(frames)) == data.decode()


def test_bytes_that_are_no_text_do_not_break_it() -> None:
    events = cast([Frame(0, "out", b"a\xff\xe6\xbc"), Frame(1, "resize", b"?")])
    assert events == [[0, "o", "a\ufffd"], [1, "o", "\ufffd"]]


def test_times_never_run_backwards() -> None:
    events = cast([Frame(2.0, "out", b"a"), Frame(1.0, "out", b"b")])
    assert [event[0] for event in events] == [2.0, 2.0]


def test_escapes_are_inert_in_the_file(tmp_path: Path) -> None:
    asciicast.write(tmp_path / "x.cast", [Frame(0, "out", b"\x1b]2;t\x07\x00")], rows=24, cols=80, title="t")
    content = (tmp_path / "x.cast").read_bytes()
    assert b"\x1b" not in content
    assert content.count(b"\n") == 2
