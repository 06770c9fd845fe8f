"""Timed PTY frames → asciicast, for `asciinema play` and every player of it.

Source: asciicast file format, version 2 (docs.asciinema.org/manual/asciicast/v2).
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from terminal_gym.trajectory.record import Frame, Trajectory

CODES = {"out": "o", "in": "i", "resize": "r"}


def write_cast(path: Path, played: Trajectory) -> None:
    """Write the recording of an episode; its folder must exist."""
    lines = cast_lines(
        played.frames, rows=played.rows, cols=played.cols, title=f"{played.task} ({played.agent})"
    )
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def cast_lines(frames: Iterable[Frame], *, rows: int, cols: int, title: str = "") -> Iterator[str]:
    """Yield the lines of a cast: the header, then one event a frame.

    A character split between two frames appears whole in the second; bytes that are no UTF-8 become U+FFFD.
    """
    yield json.dumps({"version": 2, "width": cols, "height": rows, "title": title})
    decoders = {side: codecs.getincrementaldecoder("utf-8")("replace") for side in CODES}
    for frame in frames:
        text = decoders[frame.direction].decode(frame.data)
        if text:
            yield json.dumps([round(frame.at_s, 6), CODES[frame.direction], text])
