"""pyte's screen, completed: a second buffer, scrolling both ways, insertion, repetition, wide characters.

What full-screen programs send to an xterm is followed; the parser is our own, because pyte's stops at private
parameters, strings and character sets. Nothing is ever answered: a reply to a query would be typed into the
agent's programs. Any bytes are accepted; what is not understood is skipped, and no state grows with the input.

Source: ECMA-48 (5th ed.), section 8.3; XTerm Control Sequences (patch 390); compared with tmux.
"""

from __future__ import annotations

import codecs
import copy
import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator

import pyte
import pyte.charsets
import pyte.graphics
import pyte.modes
from pyte.screens import Char, Cursor, Margins, StaticDefaultDict
from wcwidth import wcwidth

_LONGEST_CSI = 256  # characters of a control sequence
_LONGEST_STRING = 4096  # characters of an OSC that are kept

_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|\x1b\[(?P<body>[\x20-\x3f\x00-\x17\x19\x1c-\x1f\x7f]{0,256})(?P<final>[^\x20-\x3f\x00-\x17\x19\x1c-\x1f\x7f])"
    r"|\x1b(?P<string>[\]P_^X])"
    r"|\x1b(?P<middle>[ -/])(?P<nf>[^\x1b])"
    r"|\x1b(?P<escape>[^\[\]P_^X\x20-\x2f\x1b])"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f-\x9f])"
)
_STRING_END = re.compile(r"[\x07\x18\x1a\x1b]")
_CONTROLS_IN_CSI = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = Char(" ")
_AUTOWRAP, _CURSOR, _ORIGIN, _INSERT, _NEWLINE = (
    pyte.modes.DECAWM,
    pyte.modes.DECTCEM,
    pyte.modes.DECOM,
    pyte.modes.IRM,
    pyte.modes.LNM,
)
_MODES = {_AUTOWRAP, _CURSOR, _ORIGIN, _INSERT, _NEWLINE}
_ALTERNATE = {47, 1047, 1049}

_width = functools.lru_cache(maxsize=4096)(wcwidth)


_narrow: set[str] = set()  # characters known to fill one cell


def _all_narrow(text: str) -> bool:
    if text.isascii():
        return True
    unknown = set(text) - _narrow
    if any(_width(char) != 1 for char in unknown):
        return False
    if len(_narrow) < 65_536:
        _narrow.update(unknown)
    return True


class Row(StaticDefaultDict[int, Char]):
    """The cells of one row, by column; `drawn` is whatever was made of them last, None once they change."""

    def __init__(self, default: Char):
        super().__init__(default)
        self.drawn: object = None


class _Cells(dict[str, Char]):
    """The cells of one pen, by character; making a cell anew for each would take most of the time."""

    def __init__(self, pen: Char):
        super().__init__()
        self._pen = pen

    def __missing__(self, char: str) -> Char:
        if len(self) > 1024:
            self.clear()
        cell = self[char] = self._pen._replace(data=char)
        return cell


class Emulator(pyte.Screen):
    """A terminal's memory: feed it bytes, split anywhere, and read `buffer`, `cursor`, `title`, `alternate`."""

    buffer: dict[int, Row]  # type: ignore[assignment]  # pyte's own rows are replaced in `reset`

    def __init__(self, rows: int, cols: int):
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""  # the beginning of a sequence whose end has not come
        self._string: list[str] | None = None  # the OSC or DCS that is being collected
        self._string_size = 0
        self._pens: dict[Char, _Cells] = {}
        self._last = ""  # what REP repeats
        self.alternate = False
        super().__init__(cols, rows)

    # ── bytes → controls ────────────────────────────────────────────────────────────────────────

    @property
    def is_between(self) -> bool:
        """Whether the last byte ended whatever it belonged to."""
        return not self._rest and self._string is None and not self._decoder.getstate()[0]

    def feed(self, data: bytes) -> None:
        text = self._rest + self._decoder.decode(data)
        self._rest, at = "", 0
        while at < len(text):
            if self._string is not None:
                at = self._collect(text, at)
                continue
            found = _TOKEN.match(text, at)
            if found is None:
                at = self._torn(text, at)
                continue
            at = found.end()
            self._follow(found)
            # The character that broke a sequence off begins the next one.
            if found.lastgroup == "final" and found["final"] == "\x1b":
                at -= 1

    @property
    def is_plain(self) -> bool:
        """Whether lines are added below one another over the whole screen, and no sequence is open."""
        return self.is_between and self.margins is None and not self.mode & {_ORIGIN, _INSERT, _NEWLINE}

    def stand_at_bottom(self, sequences: list[bytes]) -> None:
        """Forget what is shown, follow `sequences`, and stand at the beginning of the last row."""
        self.buffer.clear()
        for sequence in sequences:
            self.feed(sequence)
        self.cursor.x, self.cursor.y, self._last = 0, self.lines - 1, ""

    def _torn(self, text: str, at: int) -> int:
        """Keep an unfinished sequence for the next bytes, or give up one that cannot be finished."""
        if text.startswith("\x1b\x1b", at):
            return at + 1
        if len(text) - at > _LONGEST_CSI + 2:
            return at + _LONGEST_CSI + 2
        self._rest = text[at:]
        return len(text)

    def _collect(self, text: str, at: int) -> int:
        assert self._string is not None
        end = _STRING_END.search(text, at)
        piece = text[at : end.start() if end else len(text)]
        self._string.append(piece[: max(0, _LONGEST_STRING - self._string_size)])
        self._string_size += len(piece)
        if end is None:
            return len(text)
        if end[0] == "\x1b" and end.end() == len(text):  # perhaps ESC \, perhaps not
            self._rest = "\x1b"
            return len(text)
        string, self._string = "".join(self._string), None
        if end[0] == "\x07" and string[0] != "]":
            self._string = [string]  # BEL ends an OSC only
            return end.end()
        if end[0] == "\x07" or text.startswith("\x1b\\", end.start()):
            self._titled(string)
        return end.end() if end[0] != "\x1b" else end.start()

    def _titled(self, string: str) -> None:
        kind, _, value = string[1:].partition(";")
        if string[0] == "]" and kind in ("0", "2"):
            self.title = "".join(filter(str.isprintable, value))

    def _follow(self, found: re.Match[str]) -> None:
        kind = found.lastgroup
        if kind == "text":
            self.draw(found["text"])
            return
        last, self._last = self._last, ""
        if kind == "final":
            self._control_sequence(found["body"], found["final"], last)
        elif kind == "control":
            self._control(found["control"])
        elif kind == "escape":
            self._escape(found["escape"])
        elif kind == "string":
            self._string, self._string_size = [found["string"]], 0
        elif kind == "nf":
            if found["middle"] in "()":
                self.define_charset(found["nf"], mode=found["middle"])
            elif found["middle"] == "#" and found["nf"] == "8":
                self.alignment_display()

    def _control(self, char: str) -> None:
        if char in "\n\x0b\x0c":
            self.linefeed()
        elif char == "\r":
            self.carriage_return()
        elif char == "\x08":
            self.backspace()
        elif char == "\t":
            self.tab()
        elif char == "\x0e":
            self.charset = 1
        elif char == "\x0f":
            self.charset = 0

    def _escape(self, char: str) -> None:
        act = {
            "c": self.reset,
            "D": self.index,
            "E": self.next_line,
            "H": self.set_tab_stop,
            "M": self.reverse_index,
            "7": self.save_cursor,
            "8": self.restore_cursor,
        }.get(char)
        if act is not None:
            act()
        elif char < " ":
            self._control(char)

    def _control_sequence(self, body: str, final: str, last: str) -> None:
        if "\x00" <= final < "@" or final > "~":  # cancelled, or not a sequence at all
            return
        for char in _CONTROLS_IN_CSI.findall(body):
            self._control(char)
        body = _CONTROLS_IN_CSI.sub("", body)
        mark = body[:1] if body[:1] in ("<", "=", ">", "?") else ""
        params = body[len(mark) :].rstrip(" !\"#$%&'()*+,-./")
        middle = body[len(mark) + len(params) :]
        if final == "m" and not mark and not middle:
            self.select_graphic_rendition(*_rendition(params))
        elif final in "hl" and mark in ("", "?") and not middle:
            self._switch(_numbers(params), private=bool(mark), on=final == "h")
        elif mark == "" and middle == "!" and final == "p":
            self._soft_reset()
        elif mark == "" and middle == "":
            numbers = _numbers(params)
            if final == "b":
                self.draw(last * min(numbers[0] or 1, self.columns * self.lines))
            elif final in _ACTS:
                _ACTS[final](self, numbers)

    # ── modes ───────────────────────────────────────────────────────────────────────────────────

    def _switch(self, numbers: list[int], *, private: bool, on: bool) -> None:
        for number in numbers:
            if private and number in _ALTERNATE:
                self._alternate(on, number)
            elif private and number == 1048:
                self.save_cursor() if on else self.restore_cursor()
            mode = number << 5 if private else number
            if mode in _MODES:
                (self.set_mode if on else self.reset_mode)(number, private=private)

    def _alternate(self, on: bool, number: int) -> None:
        if on == self.alternate:
            return
        if on and number == 1049:
            self.save_cursor()
        self.alternate = on
        if on:
            self._main = self.buffer
            self.buffer = self._new_buffer()
        else:
            self.buffer = self._main
        if not on and number == 1049:
            self.restore_cursor()

    def _new_buffer(self) -> dict[int, Row]:
        return defaultdict(lambda: Row(_PLAIN))

    def _soft_reset(self) -> None:
        self.mode = {_AUTOWRAP, _CURSOR}
        self.cursor.hidden, self.cursor.attrs, self.margins = False, _PLAIN, None
        self.charset, self.g0_charset, self.g1_charset = 0, pyte.charsets.LAT1_MAP, pyte.charsets.VT100_MAP

    def reset(self) -> None:
        self.alternate = False
        self.buffer = self._new_buffer()
        self._saved: dict[bool, tuple[Cursor, str, str, int, bool, bool]] = {}
        super().reset()
        self.g1_charset = pyte.charsets.LAT1_MAP

    def save_cursor(self) -> None:
        self._saved[self.alternate] = (
            copy.copy(self.cursor),
            self.g0_charset,
            self.g1_charset,
            self.charset,
            _ORIGIN in self.mode,
            _AUTOWRAP in self.mode,
        )

    def restore_cursor(self) -> None:
        if self.alternate not in self._saved:
            self.mode.discard(_ORIGIN)
            self.cursor_position()
            self.cursor.attrs = _PLAIN
            return
        cursor, self.g0_charset, self.g1_charset, self.charset, origin, wrap = self._saved[self.alternate]
        hidden, self.cursor = self.cursor.hidden, copy.copy(cursor)
        self.cursor.hidden = hidden
        for mode, on in ((_ORIGIN, origin), (_AUTOWRAP, wrap)):
            (self.mode.add if on else self.mode.discard)(mode)
        self.cursor.x = min(self.cursor.x, self.columns)
        self.cursor.y = min(self.cursor.y, self.lines - 1)

    def set_margins(self, top: int | None = None, bottom: int | None = None) -> None:
        first, last = max(1, top or 1) - 1, min(bottom or self.lines, self.lines) - 1
        if first >= last:
            return
        self.margins = None if (first, last) == (0, self.lines - 1) else Margins(first, last)
        self.cursor_position()

    # ── text ────────────────────────────────────────────────────────────────────────────────────

    def draw(self, data: str) -> None:
        if not data:
            return
        self._last = data[-1]
        charset = self.g1_charset if self.charset else self.g0_charset
        if charset is not pyte.charsets.LAT1_MAP:
            data = data.translate(charset)
        if _INSERT not in self.mode and _all_narrow(data):
            self._draw_narrow(data)
        else:
            for char in data:
                self._draw_char(char)

    def _draw_narrow(self, data: str) -> None:
        cursor, columns, cells = self.cursor, self.columns, self._pen()
        at = 0
        while at < len(data):
            if cursor.x >= columns:
                if _AUTOWRAP not in self.mode:
                    at, cursor.x = len(data) - 1, columns - 1
                else:
                    self.carriage_return()
                    self.index()
            piece = data[at : at + columns - cursor.x]
            row = self.buffer[cursor.y]
            end = cursor.x + len(piece)
            self._split_wide(row, cursor.x, end)
            row.update(zip(range(cursor.x, end), map(cells.__getitem__, piece), strict=True))
            row.drawn = None
            cursor.x, at = end, at + len(piece)

    def _draw_char(self, char: str) -> None:
        width, cursor = _width(char), self.cursor
        if width <= 0:
            self._combine(char)
            return
        if width > self.columns:
            return
        if cursor.x + width > self.columns:
            if _AUTOWRAP in self.mode:
                self.carriage_return()
                self.index()
            else:
                cursor.x = self.columns - width
        if _INSERT in self.mode:
            self.insert_characters(width)
        row, cells = self.buffer[cursor.y], self._pen()
        self._split_wide(row, cursor.x, cursor.x + width)
        row[cursor.x] = cells[char]
        if width == 2:
            row[cursor.x + 1] = cells[""]
        row.drawn = None
        cursor.x += width

    def _combine(self, char: str) -> None:
        row, x = self.buffer[self.cursor.y], self.cursor.x - 1
        if x > 0 and row[x].data == "":
            x -= 1
        if x >= 0 and char.isprintable() and len(row[x].data) < 8:
            row[x] = row[x]._replace(data=row[x].data + char)
            row.drawn = None

    def _split_wide(self, row: Row, start: int, end: int) -> None:
        """Blank the halves that are left of wide characters cut by writing cells [start, end)."""
        if row[start].data == "" and start > 0:
            row[start - 1] = row[start - 1]._replace(data=" ")
        if row[end].data == "" and end < self.columns:
            row[end] = row[end]._replace(data=" ")

    def _pen(self) -> _Cells:
        pen = self.cursor.attrs
        cells = self._pens.get(pen)
        if cells is None:
            if len(self._pens) > 64:
                self._pens.clear()
            cells = self._pens[pen] = _Cells(pen)
        return cells

    # ── erasing and moving ──────────────────────────────────────────────────────────────────────

    def _blank(self) -> Char:
        background = self.cursor.attrs.bg
        return _PLAIN if background == "default" else _PLAIN._replace(bg=background)

    def _blank_row(self, y: int) -> None:
        blank = self._blank()
        if blank is _PLAIN:
            self.buffer.pop(y, None)
        else:
            self.buffer[y] = Row(blank)

    def _region(self) -> tuple[int, int]:
        return self.margins or (0, self.lines - 1)

    def _scroll(self, top: int, bottom: int, count: int) -> None:
        """Move rows [top, bottom] up by `count`, down where it is negative; blank rows come in."""
        count = max(-(bottom - top + 1), min(count, bottom - top + 1))
        buffer = self.buffer
        rows = range(top, bottom + 1) if count > 0 else range(bottom, top - 1, -1)
        for y in rows:
            if top <= y + count <= bottom:
                if y + count in buffer:
                    buffer[y] = buffer.pop(y + count)
                else:
                    buffer.pop(y, None)
            else:
                self._blank_row(y)

    def index(self) -> None:
        top, bottom = self._region()
        if self.cursor.y == bottom:
            self._scroll(top, bottom, 1)
        elif self.cursor.y < self.lines - 1:
            self.cursor.y += 1

    def reverse_index(self) -> None:
        top, bottom = self._region()
        if self.cursor.y == top:
            self._scroll(top, bottom, -1)
        elif self.cursor.y > 0:
            self.cursor.y -= 1

    def next_line(self) -> None:
        self.carriage_return()
        self.index()

    def scroll_up(self, count: int) -> None:
        self._scroll(*self._region(), count)

    def scroll_down(self, count: int) -> None:
        self._scroll(*self._region(), -count)

    def insert_lines(self, count: int | None = None) -> None:
        top, bottom = self._region()
        if top <= self.cursor.y <= bottom:
            self._scroll(self.cursor.y, bottom, -(count or 1))
            self.carriage_return()

    def delete_lines(self, count: int | None = None) -> None:
        top, bottom = self._region()
        if top <= self.cursor.y <= bottom:
            self._scroll(self.cursor.y, bottom, count or 1)
            self.carriage_return()

    def _column(self) -> int:
        return min(self.cursor.x, self.columns - 1)

    def _fill(self, y: int, start: int, end: int) -> None:
        row, blank = self.buffer[y], self._blank()
        self._split_wide(row, start, end)
        if end >= self.columns and row.default == blank:
            for x in [x for x in row if x >= start]:
                del row[x]
        else:
            row.update(dict.fromkeys(range(start, end), blank))
        row.drawn = None

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        x = self._column()
        start, end = {0: (x, self.columns), 1: (0, x + 1), 2: (0, self.columns)}.get(how, (0, 0))
        if start < end:
            self._fill(self.cursor.y, start, end)

    def erase_in_display(self, how: int = 0, *args: int, **kwargs: bool) -> None:
        y = self.cursor.y
        for row in {0: range(y + 1, self.lines), 1: range(y), 2: range(self.lines)}.get(how, ()):
            self._blank_row(row)
        if how in (0, 1):
            self.erase_in_line(how)

    def erase_characters(self, count: int | None = None) -> None:
        x = self._column()
        self._fill(self.cursor.y, x, min(x + (count or 1), self.columns))

    def insert_characters(self, count: int | None = None) -> None:
        self._shift(count or 1)

    def delete_characters(self, count: int | None = None) -> None:
        self._shift(-(count or 1))

    def _shift(self, count: int) -> None:
        """Move the rest of the row to the right by `count`, to the left where it is negative."""
        row, x, blank = self.buffer[self.cursor.y], self._column(), self._blank()
        width = self.columns - x
        count = max(-width, min(count, width))
        self._split_wide(row, x, x - min(count, 0))
        cells = [row[i] for i in range(x, self.columns)]
        cells = [blank] * count + cells[: width - count] if count > 0 else cells[-count:] + [blank] * -count
        if cells[-1].data and _width(cells[-1].data[0]) == 2:
            cells[-1] = blank
        row.update(zip(range(x, self.columns), cells, strict=True))
        row.drawn = None

    def cursor_up(self, count: int | None = None) -> None:
        top, _ = self._region()
        self.cursor.y = max(self.cursor.y - (count or 1), top if self.cursor.y >= top else 0)
        self.cursor.x = self._column()

    def cursor_down(self, count: int | None = None) -> None:
        _, bottom = self._region()
        self.cursor.y = min(
            self.cursor.y + (count or 1), bottom if self.cursor.y <= bottom else self.lines - 1
        )
        self.cursor.x = self._column()

    def tabs(self, count: int) -> None:
        for _ in range(min(count, self.columns)):
            self.tab()

    def back_tabs(self, count: int) -> None:
        for _ in range(min(count, self.columns)):
            self.cursor.x = max((stop for stop in self.tabstops if stop < self.cursor.x), default=0)

    def alignment_display(self) -> None:
        self.margins = None
        self.cursor_position()
        for y in range(self.lines):
            self.buffer[y] = Row(_PLAIN._replace(data="E"))

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        lines, columns = lines or self.lines, columns or self.columns
        lost = max(0, self.cursor.y - lines + 1)  # rows below the cursor go first, then the top ones
        self.margins = None
        if lost:
            self._scroll(0, self.lines - 1, lost)
        for buffer in {id(b): b for b in (self.buffer, getattr(self, "_main", self.buffer))}.values():
            for y in [y for y in buffer if y >= lines]:
                del buffer[y]
            for row in buffer.values():
                row.drawn = None
                for x in [x for x in row if x >= columns]:
                    del row[x]
        self.tabstops |= set(range(self.columns // 8 * 8 + 8, columns, 8))
        self.cursor.y, self.cursor.x = self.cursor.y - lost, min(self.cursor.x, columns - 1)
        self.lines, self.columns = lines, columns


def _numbers(params: str) -> list[int]:
    """Return the parameters, 0 for each that is missing, the first of those with sub-parameters; never empty."""
    return [min(int("0" + re.match(r"\d*", word)[0][-6:]), 9999) for word in params.split(";")[:32]]  # type: ignore[index]


def _rendition(params: str) -> list[int]:
    """Return SGR parameters as pyte wants them: colours in the `38;2;r;g;b` form, each part below 256."""
    flat: list[int] = []
    words = iter(params.split(";")[:64])
    for word in words:
        sub = [int("0" + part[-6:]) for part in word.split(":") if part.isdigit() or not part]
        code = sub[0] if sub else 0
        if code in (38, 48, 58):
            flat += _colour(code, sub[1:], words)
        elif code == 4 and len(sub) > 1:
            flat.append(4 if sub[1] else 24)
        else:
            flat.append(code)
    return flat


def _colour(code: int, sub: list[int], words: Iterator[str]) -> list[int]:
    parts = sub or [next(iter(_numbers(word))) for _, word in zip(range(1), words, strict=False)]
    wanted = {5: 1, 2: 3}.get(parts[0] if parts else 0, 0)
    if sub:
        values = sub[-wanted:] if wanted and len(sub) > wanted else []
    else:
        values = [_numbers(word)[0] for _, word in zip(range(wanted), words, strict=False)]
    if code == 58 or not wanted or len(values) < wanted or max(values) > 255:
        return []
    return [code, parts[0], *values]


_ACTS: dict[str, Callable[[Emulator, list[int]], object]] = {
    "@": lambda e, n: e.insert_characters(n[0]),
    "A": lambda e, n: e.cursor_up(n[0]),
    "B": lambda e, n: e.cursor_down(n[0]),
    "C": lambda e, n: e.cursor_forward(n[0]),
    "D": lambda e, n: e.cursor_back(n[0]),
    "E": lambda e, n: e.cursor_down1(n[0]),
    "F": lambda e, n: e.cursor_up1(n[0]),
    "G": lambda e, n: e.cursor_to_column(n[0]),
    "H": lambda e, n: e.cursor_position(*n[:2]),
    "I": lambda e, n: e.tabs(n[0] or 1),
    "J": lambda e, n: e.erase_in_display(n[0]),
    "K": lambda e, n: e.erase_in_line(n[0]),
    "L": lambda e, n: e.insert_lines(n[0]),
    "M": lambda e, n: e.delete_lines(n[0]),
    "P": lambda e, n: e.delete_characters(n[0]),
    "S": lambda e, n: e.scroll_up(n[0] or 1),
    "T": lambda e, n: e.scroll_down(n[0] or 1) if len(n) == 1 else None,  # with five: highlight tracking
    "X": lambda e, n: e.erase_characters(n[0]),
    "Z": lambda e, n: e.back_tabs(n[0] or 1),
    "`": lambda e, n: e.cursor_to_column(n[0]),
    "a": lambda e, n: e.cursor_forward(n[0]),
    "d": lambda e, n: e.cursor_to_line(n[0]),
    "e": lambda e, n: e.cursor_down(n[0]),
    "f": lambda e, n: e.cursor_position(*n[:2]),
    "g": lambda e, n: e.clear_tab_stop(n[0]),
    "r": lambda e, n: e.set_margins(*n[:2]),
    "s": lambda e, n: e.save_cursor(),
    "u": lambda e, n: e.restore_cursor(),
}
