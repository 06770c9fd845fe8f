import itertools
import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from terminal_gym.terminal.emulator import Emulator
from terminal_gym.terminal.screen import Run, Screen, Snapshot

GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("*.bytes"))
VIM = next(path.read_bytes()[:6000] for path in GOLDEN if path.stem == "vim-24x80")


def shown(data: bytes, *, rows: int = 5, cols: int = 20) -> Snapshot:
    screen = Screen(rows=rows, cols=cols)
    screen.feed(data)
    return screen.snapshot()


# ── recorded programs ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", GOLDEN, ids=lambda path: path.stem)
def test_golden(stream: Path) -> None:
    wanted = json.loads(stream.with_suffix(".json").read_text())
    data, at = stream.read_bytes(), 0
    screen = Screen(rows=wanted["rows"], cols=wanted["cols"])
    for checkpoint in wanted["checkpoints"]:
        screen.feed(data[at : checkpoint["at"]])
        at = checkpoint["at"]
        seen = screen.snapshot()
        assert list(seen.lines) == checkpoint["screen"]
        assert list(seen.cursor) == checkpoint["cursor"]
        assert seen.alternate == checkpoint["alternate"]


# ── any bytes, split anywhere, looked at or not ─────────────────────────────────────────────────

PIECES = st.sampled_from(
    [
        *(
            b"text",
            b"\r\n",
            b"\n",
            b"\r",
            b"\t",
            b"\x08",
            b"\x07",
            "漢字é".encode(),
            b"e\xcc\x81",
            b"\xff",
            b"\x0e",
            b"\x0f",
        ),
        *(
            b"\x1b[1;31m",
            b"\x1b[m",
            b"\x1b[7;48;5;33m",
            b"\x1b[38;2;1;2;3m",
            b"\x1b[K",
            b"\x1b[1K",
            b"\x1b[2J",
            b"\x1b[J",
        ),
        *(
            b"\x1b[H",
            b"\x1b[3;4H",
            b"\x1b[2;4r",
            b"\x1b[r",
            b"\x1b[S",
            b"\x1b[2T",
            b"\x1b[L",
            b"\x1b[2M",
            b"\x1b[3@",
        ),
        *(
            b"\x1b[2P",
            b"\x1b[4X",
            b"\x1b[5b",
            b"\x1bM",
            b"\x1bD",
            b"\x1bE",
            b"\x1b7",
            b"\x1b8",
            b"\x1b[s",
            b"\x1b[u",
        ),
        *(
            b"\x1b[?1049h",
            b"\x1b[?1049l",
            b"\x1b[?47h",
            b"\x1b[?7l",
            b"\x1b[?7h",
            b"\x1b[4h",
            b"\x1b[4l",
            b"\x1b[?6h",
        ),
        *(
            b"\x1b]0;title\x07",
            b"\x1b]133;A;aid=1\x07",
            b"\x1bPq#0\x1b\\",
            b"\x1b(0",
            b"\x1b(B",
            b"\x1b#8",
            b"\x1bc",
        ),
        *(
            b"\x1b[6n",
            b"\x1b[c",
            b"\x1b[?2004h",
            b"\x1b[!p",
            b"\x1b[I",
            b"\x1b[Z",
            b"\x1b[g",
            b"\x1bH",
            b"\x1b[A",
            b"\x1b[9B",
        ),
    ]
)
STREAMS = st.lists(PIECES | st.binary(max_size=6), max_size=60).map(b"".join)


@given(data=STREAMS)
def test_no_bytes_break_it(data: bytes) -> None:
    seen = shown(data)
    assert len(seen.lines) == len(seen.styles) == 5
    assert 0 <= seen.cursor[0] < 5
    assert 0 <= seen.cursor[1] < 20
    assert "\x1b" not in seen.text()
    seen.text().encode()


@given(data=STREAMS, cuts=st.sets(st.integers(1, 200)))
def test_screen_ignores_where_the_bytes_were_split(data: bytes, cuts: set[int]) -> None:
    whole, pieces = Emulator(5, 20), Emulator(5, 20)
    whole.feed(data)
    for start, end in itertools.pairwise([0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]):
        pieces.feed(data[start:end])
    assert state(pieces) == state(whole)


@given(pieces=st.lists(PIECES, max_size=40), resized=st.booleans())
@example(pieces=[b"text", b"\r", b"\x1b[K"], resized=False)
@example(pieces=[b"text", b"\r", b"\x1b[2P", b"\x1b[3@"], resized=False)
@example(pieces=[b"te", b"\xcc\x81"], resized=False)
@example(pieces=[b"text\r\n", b"more", b"\x1b[H", b"\x1bM"], resized=False)
@example(pieces=[b"wide text to cut off"] * 10, resized=True)
@example(pieces=[b"text", b"\r", "漢".encode()], resized=False)
def test_looking_changes_nothing(pieces: list[bytes], resized: bool) -> None:
    looked_at, left_alone = Screen(rows=5, cols=20), Screen(rows=5, cols=20)
    for i, piece in enumerate(pieces):
        for screen in (looked_at, left_alone):
            screen.feed(piece)
            if resized and i == 9:
                screen.resize(4, 18)
        looked_at.snapshot()
    assert looked_at.snapshot() == left_alone.snapshot()


@settings(max_examples=20)
@given(cuts=st.sets(st.integers(1, len(VIM) - 1)))
def test_vim_looks_the_same_however_it_was_split(cuts: set[int]) -> None:
    whole, pieces = Screen(rows=24, cols=80), Screen(rows=24, cols=80)
    whole.feed(VIM)
    for start, end in itertools.pairwise([0, *sorted(cuts), len(VIM)]):
        pieces.feed(VIM[start:end])
        pieces.text()
    assert pieces.snapshot() == whole.snapshot()


LINES = st.lists(
    st.sampled_from(
        [
            *(
                b"plain",
                b"\x1b[31mred",
                b"\x1b[m",
                b"\x1b[1m",
                b"\x1b[44m",
                "漢字".encode(),
                b"\ttab",
                b"\x1b[K",
            ),
            *(
                b"\x1b]0;t\x07",
                b"\x08x",
                b"back\rover",
                b"long " * 12,
                b"\x1b[?2004l",
                b"\x07",
                b"\x1b[0;7m",
                b"\xff",
            ),
        ]
    ).map(lambda piece: piece + b"\r\n")
    | st.sampled_from(
        [b"no line end", b"\n", b"\x1b[2;3Hx", b"\x1b[2J", b"\x1b[A", b"\x1b[?1049h", b"\x1b[1;3r", b"\x1b[1"]
    ),
    max_size=40,
).map(b"".join)


@settings(deadline=None, max_examples=150)
@given(before=LINES, filler=st.integers(0, 3), after=LINES)
@example(before=b"\x1b[1", filler=1, after=b"")
@example(before=b"\x1b[H\x1b[2Jleft standing\x1b[H", filler=2, after=b"x")
@example(before=b"\x1b[5;1Hleft standing\x1b[H\n" + b"1%\r" * 9000 + b"\r\nx" * 7, filler=0, after=b"")
def test_a_burst_shows_what_following_it_would(before: bytes, filler: int, after: bytes) -> None:
    burst = before + b"a line of a burst\r\n" * (900 * filler) + after
    screen, emulator = Screen(rows=5, cols=20), Emulator(5, 20)
    screen.feed(burst)
    emulator.feed(burst)
    screen.snapshot()
    assert state(screen._emulator) == state(emulator)


@settings(deadline=None, max_examples=10)
@given(st.lists(LINES.map(lambda lines: lines * 400), max_size=6))
def test_long_queues_are_shortened_exactly(chunks: list[bytes]) -> None:
    screen, emulator = Screen(rows=5, cols=20), Emulator(5, 20)
    for chunk in chunks:
        screen.feed(chunk)
        emulator.feed(chunk)
    screen.snapshot()
    assert state(screen._emulator) == state(emulator)


def state(emulator: Emulator) -> object:
    cells = [[emulator.buffer[y][x] for x in range(emulator.columns)] for y in range(emulator.lines)]
    cursor = (emulator.cursor.x, emulator.cursor.y, emulator.cursor.attrs, emulator.cursor.hidden)
    return cells, cursor, emulator.alternate, emulator.title, emulator.margins, emulator.mode


# ── single functions ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"ab\r\ncd", "ab\ncd"),
        (b"a\tb", "a       b"),
        (b"1\r\n2\r\n3\r\n4\r\n5\r\n6", "2\n3\n4\n5\n6"),
        (b"x" * 20 + b"y", "x" * 20 + "\ny"),
        (b"\x1b[?7l" + b"x" * 20 + b"yz", "x" * 19 + "z"),
        (b"abc\x1b[2D\x1b[@", "a bc"),
        (b"abcdef\x1b[5D\x1b[2P", "adef"),
        (b"abcdef\r\x1b[3X", "   def"),
        (b"ab\x1b[3b", "abbbb"),
        (b"\x1b[3bx", "x"),
        (b"1\r\n2\r\n3\x1b[2;1H\x1b[L", "1\n\n2\n3"),
        (b"1\r\n2\r\n3\x1b[1;1H\x1b[M", "2\n3"),
        (b"1\r\n2\r\n3\x1b[S", "2\n3"),
        (b"1\r\n2\r\n3\x1b[T", "\n1\n2\n3"),
        (b"1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3;1H\n!", "1\n3\n!\n4"),
        (b"1\r\n2\x1b[H\x1bM0", "0\n1\n2"),
        (b"ab\x1b7cd\x1b8X", "abXd"),
        (b"main\x1b[?1049h\x1b[Hother\x1b[?1049lx", "mainx"),
        (b"main\x1b[?1049h\x1b[Hother", "other"),
        (b"\x1b(0lqk\x1b(B", "┌─┐"),
        ("漢字".encode(), "漢字"),
        ("漢字\x1b[2GX".encode(), " X字"),
        (b"x" * 19 + "漢".encode(), "x" * 19 + "\n漢"),
        (b"e\xcc\x81", "e\u0301"),
        (b"\x1b[4hbc\ra", "abc"),
        (b"a\x1b[1\n2Cb", "a\n             b"),
        (b"a\x1b[31\x18b", "ab"),
        (b"\x1bPnot shown\x1b\\shown", "shown"),
        (b"\x1b_not shown\x07nor this\x1b\\shown", "shown"),
        (b"\x1b]0;unfinished\x1b[1mshown", "shown"),
        (b"\x1b[>4;2m\x1b[?25lx\x1b[>c\x1b[=c\x1b[2 q", "x"),
        (b"a\x1b[3Jb", "ab"),
        (b"\x9bab", "\ufffdab"),
    ],
)
def test_control_functions(data: bytes, text: str) -> None:
    assert shown(data).text() == text


def test_looks_are_runs() -> None:
    seen = shown(b"a\x1b[1;31mbc\x1b[m \x1b[7md\x1b[38;2;1;2;255me")
    assert seen.styles[0] == (
        Run(1, 3, "red", "default", True, False),
        Run(4, 5, "default", "default", False, True),
        Run(5, 6, "0102ff", "default", False, True),
    )


def test_background_fills_what_is_erased() -> None:
    assert shown(b"\x1b[44m\x1b[K", cols=4).styles[0] == (Run(0, 4, "default", "blue", False, False),)


@pytest.mark.parametrize(
    "rendition", [b"38:2::1:2:3", b"38:2:1:2:3", b"38;2;1;2;3", b"58;5;9;38;2;1;2;3", b"4:3;38;2;1;2;3"]
)
def test_colours_in_every_spelling(rendition: bytes) -> None:
    assert shown(b"\x1b[%bmx" % rendition).styles[0][0].fg == "010203"


@pytest.mark.parametrize(
    "rendition", [b"38", b"38;2", b"38;5;999", b"38;2;1;2", b"99;1234567890", b":::", b"48:2"]
)
def test_broken_renditions_are_skipped(rendition: bytes) -> None:
    assert shown(b"\x1b[%bmx" % rendition).text() == "x"


def test_a_snapshot_does_not_change() -> None:
    screen = Screen(rows=2, cols=10)
    screen.feed(b"one")
    before = screen.snapshot()
    screen.feed(b" two")
    assert before.text() == "one"
    assert screen.text() == "one two"
    with pytest.raises(FrozenInstanceError):
        before.title = "x"  # type: ignore[misc]


def test_the_title_is_text() -> None:
    assert shown(b"\x1b]2;my \x01title\x07").title == "my title"
    assert shown(b"\x1b]2;" + b"x" * 100_000 + b"\x07y").text() == "y"


def test_resizing_keeps_what_is_near_the_cursor() -> None:
    screen = Screen(rows=5, cols=20)
    screen.feed(b"1\r\n2\r\n3\r\n4\r\n5 and more")
    screen.resize(3, 4)
    assert screen.text() == "3\n4\n5 an"
    screen.resize(5, 20)
    assert screen.text() == "3\n4\n5 an"
    assert screen.snapshot().size == (5, 20)


def test_memory_does_not_grow_with_the_input() -> None:
    screen = Screen(rows=5, cols=20)
    for _ in range(300):
        screen.feed(b"\x1b]0;" + b"t" * 10_000)
        screen.feed(b"\x1b[" + b"1;" * 5_000)
        screen.feed(b"line\r\n" * 2_000)
    assert screen._queued < 1 << 20
    assert len(screen._emulator._rest) < 1000
