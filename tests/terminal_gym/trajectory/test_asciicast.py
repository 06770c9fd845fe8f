"""Casts: one header, one event a frame, characters never cut in two."""

import json

from terminal_gym.trajectory.asciicast import cast_lines
from terminal_gym.trajectory.record import Frame


def test_frames_become_events() -> None:
    euro = "€".encode()
    frames = [
        Frame(0.0, "out", b"\x1b[1m$ " + euro[:1]),
        Frame(0.5, "in", b"ls\r"),
        Frame(0.6, "out", euro[1:] + b"\xff"),
        Frame(0.7, "resize", b"100x50"),
        Frame(0.8, "out", euro[:2]),
    ]
    header, *events = [json.loads(line) for line in cast_lines(frames, rows=24, cols=80, title="t")]
    assert header == {"version": 2, "width": 80, "height": 24, "title": "t"}
    assert events == [
        [0.0, "o", "\x1b[1m$ "],
        [0.5, "i", "ls\r"],
        [0.6, "o", "€\ufffd"],
        [0.7, "r", "100x50"],
    ]
