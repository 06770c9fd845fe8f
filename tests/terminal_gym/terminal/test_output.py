import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.terminal.output import Output, clipped, column_after, plain


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\r\ntext\r\n", "plain\ntext\n"),
        (b"\x1b[1;31mred\x1b[m \x1b]0;title\x07x\x1b(B\x1b[?25l\x1b=", "red x"),
        (b"\x1bP1;2|stuff\x1b\\after", "after"),
        (b"\x1b]133;A;aid=0123\x07$ \x1b]133;B;aid=0123\x07", "$ "),
        (b"10%\r50%\r100%\r\n", "100%\n"),
        (b"long text\rab\x1b[K\r\n", "ab\n"),
        (b"ab\x08c", "ac"),
        (b"abc\x1b[2Kd", "   d"),
        (b"a\x1b[3;1Hb", "a\nb"),
        ("漢字\rab".encode(), "ab字"),
        (b"caf\xc3", "caf"),
        (b"\xa9 x", " x"),
        (b"bad \xff byte", "bad \ufffd byte"),
        (b"nul\0bel\x07", "nulbel"),
        (b"torn\x1b[31", "torn"),
    ],
)
def test_plain_text(data: bytes, text: str) -> None:
    assert plain(data, cols=80) == text


def test_a_line_that_readline_wrapped_is_whole() -> None:
    echoed = b"x" * 10 + b" \r" + b"y" * 10 + b" \r" + b"zz\r\n"
    assert plain(echoed, cols=10) == "x" * 10 + "y" * 10 + "zz\n"
    assert plain(b"x" * 8 + b" \r" + b"yy\r\n", cols=10, column=2) == "x" * 8 + "yy\n"


def test_the_column_is_where_the_prompt_ends() -> None:
    assert column_after(b"\x1b]133;A;aid=0\x07$ \x1b[1m", cols=80) == 2
    assert column_after("漢 ".encode(), cols=80) == 3


@given(st.binary(max_size=400), st.integers(1, 40))
def test_any_bytes_become_text_without_controls(data: bytes, cols: int) -> None:
    text = plain(data, cols=cols)
    assert "\x1b" not in text
    assert "\r" not in text
    text.encode()


def test_both_ends_are_kept() -> None:
    output, line = Output(), b"0123456789abcde\n"
    for _ in range(100_000):
        output.append(line)
    assert output.size == 1_600_000
    assert output.omitted == output.size - len(output.head()) - len(output.tail())
    assert output.omitted > 1_000_000
    assert output.head().startswith(line)
    assert output.tail().endswith(line)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_little_output_is_kept_whole(pieces: list[bytes]) -> None:
    output = Output()
    for piece in pieces:
        output.append(piece)
    assert output.head() + output.tail() == b"".join(pieces)
    assert output.omitted == 0


def test_clipping_says_how_much_is_gone() -> None:
    assert clipped("short", 10) == "short"
    assert clipped("a" * 100, 10) == "aaaaa\n[… 90 characters left out …]\naaaaa"
