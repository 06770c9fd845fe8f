import itertools

from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.terminal.marks import Marks

NONCE = "0123456789abcdef"
A, B, C = (b"\x1b]133;%c;aid=0123456789abcdef\x07" % letter for letter in b"ABC")
D3 = b"\x1b]133;D;3;aid=0123456789abcdef\x07"
HINT = b"\x1b]6973;0123456789abcdef;waiting;17.204\x07"
STREAM = b"\x1b[1mecho\x1b[m\r\n" + C + b"out\x1b]0;title\x07" + D3 + A + b"$ " + B + HINT + b"ls"


def test_a_prompt_is_an_end_of_command_and_then_a_prompt() -> None:
    marks = Marks(NONCE)
    marks.feed(C + b"out\r\n")
    assert (marks.prompts, marks.at_prompt, marks.exit_code) == (0, False, None)
    marks.feed(D3 + A + b"$ ")
    assert (marks.prompts, marks.at_prompt, marks.exit_code) == (0, False, 3)
    marks.feed(B)
    assert (marks.prompts, marks.at_prompt, marks.seen_commands) == (1, True, True)


def test_a_redraw_is_no_prompt() -> None:
    marks = Marks(NONCE)
    marks.feed(D3 + A + b"$ " + B)
    marks.forget()
    marks.feed(b"\r" + A + b"$ " + B + b"ls -la")
    assert (marks.prompts, marks.exit_code) == (0, None)


def test_other_nonces_say_nothing() -> None:
    marks = Marks(NONCE)
    forged = b"\x1b]133;D;0;aid=ffffffffffffffff\x07\x1b]133;D;0\x07\x1b]133;B\x07\x1b]6973;f;waiting\x07"
    assert marks.feed(forged) == forged
    assert (marks.prompts, marks.exit_code, marks.hints, marks.at_prompt) == (0, None, 0, False)


@given(cuts=st.sets(st.integers(1, len(STREAM) - 1)))
def test_marks_may_be_split_anywhere(cuts: set[int]) -> None:
    marks, shown = Marks(NONCE), b""
    for start, end in itertools.pairwise([0, *sorted(cuts), len(STREAM)]):
        shown += marks.feed(STREAM[start:end])
    shown += marks.flush()
    assert (marks.prompts, marks.exit_code, marks.hints, marks.at_prompt) == (1, 3, 1, True)
    assert marks.sleep == b"17.204"
    assert shown == STREAM.replace(HINT, b"")


@given(st.binary(max_size=300))
def test_nothing_is_lost_or_held_for_long(data: bytes) -> None:
    marks = Marks(NONCE)
    shown = marks.feed(data)
    assert len(data) - len(shown) < 96
    assert shown + marks.flush() == data


@given(cut=st.integers(1, len(b"out" + HINT + b"more") - 1))
def test_where_a_hint_stood_in_what_is_shown(cut: int) -> None:
    marks, stream, shown, place = Marks(NONCE), b"out" + HINT + b"more", b"", None
    for part in (stream[:cut], stream[cut:]):
        new = marks.feed(part)
        place = place if marks.hint_at is None else len(shown) + marks.hint_at
        shown += new
    assert (shown, place, marks.sleep) == (b"outmore", 3, b"17.204")
    marks.feed(b"a\x1b]6973;0123456789abcdef;waiting\x07b")
    assert (marks.hint_at, marks.sleep, marks.hints) == (1, b"17.204", 2)
