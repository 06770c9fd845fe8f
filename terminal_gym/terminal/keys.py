"""Key names ↔ bytes, by the names that tmux uses: "C-c", "M-x", "Enter", "Up", "F5".

Source: tmux(1), "KEY BINDINGS", for the names; XTerm Control Sequences (patch 390) for the bytes.
"""

from __future__ import annotations

from terminal_gym.errors import BadAction

_ESC = b"\x1b"

_PLAIN: dict[str, bytes] = {
    "Enter": b"\r",
    "Escape": _ESC,
    "Tab": b"\t",
    "BTab": b"\x1b[Z",
    "Space": b" ",
    "BSpace": b"\x7f",
    "Up": b"\x1b[A",
    "Down": b"\x1b[B",
    "Right": b"\x1b[C",
    "Left": b"\x1b[D",
    "Home": b"\x1b[H",
    "End": b"\x1b[F",
    "IC": b"\x1b[2~",
    "Insert": b"\x1b[2~",
    "DC": b"\x1b[3~",
    "Delete": b"\x1b[3~",
    "PPage": b"\x1b[5~",
    "PageUp": b"\x1b[5~",
    "PgUp": b"\x1b[5~",
    "NPage": b"\x1b[6~",
    "PageDown": b"\x1b[6~",
    "PgDn": b"\x1b[6~",
    **{f"F{n}": b"\x1bO" + letter for n, letter in zip(range(1, 5), (b"P", b"Q", b"R", b"S"), strict=True)},
    **{
        f"F{n}": b"\x1b[%d~" % code
        for n, code in zip(range(5, 13), (15, 17, 18, 19, 20, 21, 23, 24), strict=True)
    },
}
_CONTROL = {f"C-{chr(c)}": bytes([c & 0x1F]) for c in (*range(0x40, 0x60), *range(0x61, 0x7B))} | {
    "C-Space": b"\0",
    "C-?": b"\x7f",
    "C-/": b"\x1f",
}
_MODIFIERS = {"S-": 1, "M-": 2, "C-": 4}


def encode(text: str) -> bytes:
    """Return the bytes that typing `text` sends: a key's where it is exactly a key's name, else its own.

    Literal text is left as it is: a line feed stays a line feed, which every shell takes for Enter.

    Raises:
        BadAction: The text holds half a surrogate pair, which no terminal can be sent.

    >>> encode("C-c"), encode("echo C-c"), encode("a;b\\n")
    (b'\\x03', b'echo C-c', b'a;b\\n')
    """
    key = key_bytes(text)
    if key is not None:
        return key
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadAction(
            f"character {error.start} of the keys is half a surrogate pair; send whole characters"
        ) from None


def key_bytes(name: str) -> bytes | None:
    """Return what the key of that name sends, None where no key has that name."""
    if name in _PLAIN:
        return _PLAIN[name]
    if name in _CONTROL:
        return _CONTROL[name]
    base, modifiers = name, 0
    while base[:2] in _MODIFIERS and len(base) > 2:
        modifiers |= _MODIFIERS[base[:2]]
        base = base[2:]
    if not modifiers:
        return None
    special = _modified(base, modifiers)
    if special is not None:
        return special
    if modifiers & 2 and not modifiers & 1:  # Meta is an Escape in front
        rest = key_bytes("C-" + base) if modifiers & 4 else key_bytes(base) or _single(base)
        return None if rest is None else _ESC + rest
    return None


def _single(char: str) -> bytes | None:
    return char.encode() if len(char) == 1 and char.isprintable() else None


def _modified(base: str, modifiers: int) -> bytes | None:
    """Return an arrow, editing or function key with modifiers, in xterm's `CSI 1 ; m X` and `CSI n ; m ~`."""
    plain = _PLAIN.get(base, b"")
    m = b"%d" % (modifiers + 1)
    if plain[:2] in (b"\x1b[", b"\x1bO") and plain[-1:] in b"ABCDHFPQRS" and len(plain) == 3:
        return b"\x1b[1;" + m + plain[-1:]
    if plain[:2] == b"\x1b[" and plain.endswith(b"~"):
        return plain[:-1] + b";" + m + b"~"
    return None


NAMES = frozenset(_PLAIN) | frozenset(_CONTROL)
