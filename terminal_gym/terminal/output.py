"""What was printed: a bounded record of raw bytes, and the plain text a reader would take from it."""

from __future__ import annotations

import codecs
import re

from wcwidth import wcswidth

_KEPT = 128 * 1024  # bytes kept at each end

_ERASE = r"\x1b\[[0-2]?K"
_ESCAPES = re.compile(
    rf"(?!{_ERASE})(?:"
    r"\x1b\[[0-?]*[ -/]*(?:[@-~]|\Z)"  # control sequences, also one torn off
    r"|(?:\x1b[\]P_^X]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|(?=\x1b)|\Z)"  # OSC, DCS and the like
    r"|\x1b[ -/]+[0-~]?"  # character sets
    r"|\x1b[0-~]?"
    r"|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]"
    r")"
)
_JUMPS = re.compile(r"\x1b\[[0-9;]*[Hfd]")  # to another row: what is printed there is another line
_MOVES = re.compile(rf"(\r|\x08|{_ERASE})")


class Output:
    """The bytes of one step: the first and the last 128 KiB, and how many were left out between."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._head, self._tail = bytearray(), bytearray()
        self.size = 0  # bytes seen

    def append(self, data: bytes) -> None:
        self.size += len(data)
        room = _KEPT - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data
            if len(self._tail) > 2 * _KEPT:  # cut rarely: each cut copies
                del self._tail[:-_KEPT]

    @property
    def omitted(self) -> int:
        """Bytes that were seen and are not kept."""
        return self.size - len(self._head) - min(len(self._tail), _KEPT)

    def head(self) -> bytes:
        return bytes(self._head)

    def tail(self) -> bytes:
        return bytes(self._tail[-_KEPT:])

    def last_line(self) -> bytes:
        """Return what followed the last line feed, at most 2 KiB."""
        end = bytes((self._tail or self._head)[-2048:])
        return end.rpartition(b"\n")[2]


def plain(data: bytes, *, cols: int, column: int = 0) -> str:
    """Return the text that `data` leaves behind on a terminal `cols` wide, without its escape sequences.

    Lines end in a line feed, or where the cursor was sent to another place. Carriage returns, backspaces and
    erasures inside a line are carried out, a line that the terminal wrapped is whole. Bytes that are not UTF-8
    become U+FFFD; a character torn at either end is left out.

    Args:
        data: As printed.
        cols: Width of the terminal, for wrapped lines.
        column: Where the cursor stood before `data`.
    """
    start = next((i for i, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(data[start:])
    text = _ESCAPES.sub("", _JUMPS.sub("\n", text)).replace("\r\n", "\n")
    if not _MOVES.search(text):
        return text
    lines = text.split("\n")
    return "\n".join(_settled(line, cols, column if i == 0 else 0) for i, line in enumerate(lines))


def column_after(data: bytes, *, cols: int) -> int:
    """Return where the cursor stands after the one line `data`, counted from the line's beginning."""
    return _width(plain(data, cols=cols))


def _settled(line: str, cols: int, column: int) -> str:
    """Carry out what moves the cursor within one line, which may have wrapped over several rows."""
    if not _MOVES.search(line):
        return line
    cells = [""] * column
    at = column
    for piece in _MOVES.split(line.rstrip("\r")):
        if piece == "\r":
            # At the right margin the cursor still stands on the row it has filled.
            at = (at - (at > 0 and at % cols == 0)) // cols * cols
        elif piece == "\x08":
            at = max(0, at - 1)
        elif piece.startswith("\x1b"):
            cells = _erased(cells, at, cols, piece)
        elif piece:
            at = _write(cells, at, piece)
    return "".join(cells[column:])


def _write(cells: list[str], at: int, text: str) -> int:
    if text.isascii() or _width(text) == len(text):
        new = list(text)
    else:
        new = []
        for char in text:
            width = _width(char)
            if width:
                new += [char] + [""] * (width - 1)
            elif new:
                new[-1] += char
    if len(cells) < at:
        cells += " " * (at - len(cells))
    cells[at : at + len(new)] = new
    return at + len(new)


def _erased(cells: list[str], at: int, cols: int, sequence: str) -> list[str]:
    how = sequence[2:-1] or "0"
    row = at // cols * cols
    if how == "0":
        return cells[:at]
    if how == "1":
        return [*cells[:row], *" " * (at + 1 - row), *cells[at + 1 :]]
    return cells[:row]


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return max(0, wcswidth(text)) or sum(max(0, wcswidth(char)) for char in text)


def clipped(text: str, limit: int) -> str:
    """Return `text`, its middle replaced by a note where it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"
