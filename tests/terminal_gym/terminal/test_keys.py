import pytest

from terminal_gym.errors import BadAction
from terminal_gym.terminal.keys import NAMES, encode


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("C-c", b"\x03"),
        ("C-[", b"\x1b"),
        ("C-Space", b"\0"),
        ("Enter", b"\r"),
        ("Escape", b"\x1b"),
        ("BSpace", b"\x7f"),
        ("Tab", b"\t"),
        ("BTab", b"\x1b[Z"),
        ("Up", b"\x1b[A"),
        ("PPage", b"\x1b[5~"),
        ("PageUp", b"\x1b[5~"),
        ("F1", b"\x1bOP"),
        ("F12", b"\x1b[24~"),
        ("M-x", b"\x1bx"),
        ("M-é", b"\x1b\xc3\xa9"),
        ("C-M-x", b"\x1b\x18"),
        ("M-C-x", b"\x1b\x18"),
        ("C-Up", b"\x1b[1;5A"),
        ("S-F5", b"\x1b[15;2~"),
        ("C-S-Left", b"\x1b[1;6D"),
    ],
)
def test_a_key_name_is_that_key(name: str, data: bytes) -> None:
    assert encode(name) == data


@pytest.mark.parametrize(
    "text", ["", "ls\n", "a;b", "echo C-c", "C-", "M-", "C-cc", "M-ab", "enter", "漢字", "^C", "F13"]
)
def test_anything_else_is_itself(text: str) -> None:
    assert encode(text) == text.encode()


def test_every_name_has_bytes() -> None:
    assert all(encode(name) != name.encode() for name in NAMES)


def test_half_a_surrogate_is_refused() -> None:
    with pytest.raises(BadAction, match="surrogate"):
        encode("abc\ud800")
