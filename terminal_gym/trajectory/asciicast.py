"""PTY frames → an asciicast recording, which `asciinema play` and the web player show.

Source: asciicast v2, https://docs.asciinema.org/manual/asciicast/v2/: a header line, then one JSON array
`[seconds, code, data]` per event, with code "o" for output, "i" for input and "r" for a resize.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from terminal_gym.trajectory.record import Frame

_CODES = {"out": "o", "in": "i", "resize": "r"}


def lines(
    frames: Iterable[Frame], *, rows: int, cols: int, title: str = "", env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Yield the lines of a recording, without newlines; never holds more than one frame.

    Bytes that are not UTF-8 become U+FFFD; a character split between two frames stays whole. Times never run
    backwards. A resize without a readable size is left out.
    """
    header: dict[str, object] = {"version": 2, "width": cols, "height": rows}
    if title:
        header["title"] = title
    header["env"] = dict(env or {"TERM": "xterm-256color"})
    yield json.dumps(header, ensure_ascii=False)
    decoders = {way: codecs.getincrementaldecoder("utf-8")("replace") for way in ("out", "in")}
    at = 0.0
    for frame in frames:
        at = max(at, frame.at_s)
        text = (
            _size(frame.data) if frame.direction == "resize" else decoders[frame.direction].decode(frame.data)
        )
        if text:
            yield json.dumps([round(at, 6), _CODES[frame.direction], text], ensure_ascii=False)
    for direction, decoder in decoders.items():
        rest = decoder.decode(b"", final=True)
        if rest:
            yield json.dumps([round(at, 6), _CODES[direction], rest], ensure_ascii=False)


def write(
    path: Path,
    frames: Iterable[Frame],
    *,
    rows: int,
    cols: int,
    title: str = "",
    env: Mapping[str, str] | None = None,
) -> None:
    """Write a recording to `path`, UTF-8, one event per line."""
    with path.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        for line in lines(frames, rows=rows, cols=cols, title=title, env=env):
            file.write(line + "\n")


def _size(data: bytes) -> str:
    """Return "COLSxROWS" where `data` says that, else nothing."""
    cols, _, rows = data.partition(b"x")
    return f"{int(cols)}x{int(rows)}" if cols.isdigit() and rows.isdigit() else ""
