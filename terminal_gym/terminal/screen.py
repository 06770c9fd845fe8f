"""What a person would see: bytes in, immutable snapshots out, `(rows, cols)` cells.

Bytes are queued and followed only when somebody looks, and of a long burst of plain lines only the end is: the
rest has scrolled away. Both are exact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

from pyte.screens import Char

from terminal_gym.terminal.emulator import Emulator, Row

_PLAIN = Char(" ")
_MOST_QUEUED = 1 << 17  # bytes
_SHORT = 1 << 14  # bytes that are not worth a shortcut
_MOST_CUTS = 16  # odd lines in a burst that are followed one by one

# What moves the cursor only along its line or to the next one, and leaves no mode behind but pen and title.
_SIMPLE = re.compile(
    rb"(?:[^\x0b\x0c\x0e\x0f\x18\x1a\x1b]++|\x1b\[[0-9;]*[mK]|\x1b\][^\x07\x18\x1a\x1b]*\x07|\x1b\[\?2004[hl])*+"
)
_PEN = re.compile(rb"\x1b\[([0-9;]*)m")
_TITLE = re.compile(rb"\x1b\][02];[^\x07\x18\x1a\x1b]*\x07")


@dataclass(frozen=True)
class Run:
    """Neighbouring cells of one row that look alike; cells that look plain are in no run."""

    start: int  # column of the first cell
    end: int  # column after the last cell
    fg: str  # "default", one of eight names, "bright…", or six hex digits
    bg: str
    bold: bool
    reverse: bool


@dataclass(frozen=True)
class Snapshot:
    """A screen at one moment."""

    lines: tuple[str, ...]  # one per row, trailing blanks cut; a wide character stands for two cells
    styles: tuple[tuple[Run, ...], ...]  # one per row
    cursor: tuple[int, int]  # (row, column), from 0
    cursor_shown: bool
    size: tuple[int, int]  # (rows, columns)
    alternate: bool  # a full-screen program has switched buffers
    title: str

    def text(self) -> str:
        """Return the rows joined by newlines, empty rows at the end cut."""
        return "\n".join(self.lines).rstrip("\n")


class Screen:
    """A terminal's screen, fed with bytes that may be split anywhere."""

    def __init__(self, *, rows: int, cols: int):
        self._emulator = Emulator(rows, cols)
        self._queue: list[bytes] = []
        self._queued = 0

    @property
    def rows(self) -> int:
        rows: int = self._emulator.lines
        return rows

    @property
    def cols(self) -> int:
        cols: int = self._emulator.columns
        return cols

    def feed(self, data: bytes) -> None:
        """Take the next bytes; cheap, but for what exceeds the first 128 KiB between two looks."""
        self._queue.append(data)
        self._queued += len(data)
        if self._queued > _MOST_QUEUED:
            self._shorten()

    def resize(self, rows: int, cols: int) -> None:
        self._catch_up()
        self._emulator.resize(rows, cols)

    def snapshot(self) -> Snapshot:
        """Return what is shown now."""
        self._catch_up()
        emulator = self._emulator
        rows = [_drawn(emulator.buffer.get(y), emulator.columns) for y in range(emulator.lines)]
        return Snapshot(
            lines=tuple(text for text, _ in rows),
            styles=tuple(runs for _, runs in rows),
            cursor=(emulator.cursor.y, min(emulator.cursor.x, emulator.columns - 1)),
            cursor_shown=not emulator.cursor.hidden,
            size=(emulator.lines, emulator.columns),
            alternate=emulator.alternate,
            title=emulator.title,
        )

    def text(self) -> str:
        """Return the text of a snapshot taken now."""
        return self.snapshot().text()

    def _shorten(self) -> None:
        """Drop from the queue what has scrolled away; where that cannot be told, follow it."""
        data = b"".join(self._queue)
        for _ in range(_MOST_CUTS):
            if len(data) <= _SHORT:
                break
            data, simple = self._without_scrolled(data)
            if simple == len(data):
                break
            # Something else stands in between: follow it to the end of its line, and look at what comes after.
            cut = data.find(b"\n", simple) + 1 or len(data)
            self._emulator.feed(data[:cut])
            data = data[cut:]
        self._queue, self._queued = [data], len(data)
        if len(data) > _MOST_QUEUED // 2:
            self._follow()

    def _catch_up(self) -> None:
        if self._queued > _SHORT:
            self._shorten()
        self._follow()

    def _follow(self) -> None:
        data, self._queue, self._queued = b"".join(self._queue), [], 0
        if data:
            self._emulator.feed(data)

    def _without_scrolled(self, data: bytes) -> tuple[bytes, int]:
        """Bring the emulator to where it would stand before the last lines of the simple part of `data`.

        Returns the data from there on, and how much of it is simple.
        """
        emulator = self._emulator
        if not emulator.is_plain:
            return data, 0
        simple = _SIMPLE.match(data).end()  # type: ignore[union-attr]  # matches the empty string too
        start = _nth_line_from(data, simple, emulator.lines + 1)
        # As many lines before it bring the cursor to the bottom: nothing old stands below what comes.
        if start < 0 or data.count(b"\n", 0, start) < emulator.lines:
            return data, simple
        emulator.stand_at_bottom([*_TITLE.findall(data, 0, start)[-1:], *_last_pens(data, start)])
        return data[start:], simple - start


def _nth_line_from(data: bytes, end: int, count: int) -> int:
    """Return where the last `count` lines before `end` begin, after a CR LF; -1 where there is no such place."""
    at = end
    for _ in range(count):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return -1
    at = data.rfind(b"\r\n", 0, at + 1)
    return at + 2 if at >= 0 else -1


def _last_pens(data: bytes, end: int) -> list[bytes]:
    """Return the pen switches before `end` that still matter: from the last reset on, the last of each kind."""
    reset = max(data.rfind(b"\x1b[m", 0, end), data.rfind(b"\x1b[0m", 0, end), 0)
    kept: dict[bytes, None] = {}
    for found in _PEN.finditer(data, reset, end):
        kept.pop(found[0], None)
        kept[found[0]] = None
    return list(kept)


def _drawn(row: Row | None, cols: int) -> tuple[str, tuple[Run, ...]]:
    if row is None:
        return "", ()
    if row.drawn is None:
        # A row is sparse: what lies beyond its last cell is blank, and often plain.
        end = cols if row.default != _PLAIN else max(row, default=-1) + 1
        cells = [row[x] for x in range(min(end, cols))]
        row.drawn = "".join([cell.data for cell in cells]).rstrip(" "), _runs(cells)
    return cast(tuple[str, tuple[Run, ...]], row.drawn)


def _runs(cells: list[Char]) -> tuple[Run, ...]:
    if all(cell[1:] == _PLAIN[1:] for cell in cells):
        return ()
    runs: list[Run] = []
    for x, cell in enumerate(cells):
        look = (cell.fg, cell.bg, cell.bold, cell.reverse)
        if look == ("default", "default", False, False):
            continue
        last = runs[-1] if runs else None
        if last is not None and last.end == x and (last.fg, last.bg, last.bold, last.reverse) == look:
            runs[-1] = Run(last.start, x + 1, *look)
        else:
            runs.append(Run(x, x + 1, *look))
    return tuple(runs)
