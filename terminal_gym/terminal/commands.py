"""What commands printed: the output between a shell's own marks, without echo and prompts."""

from __future__ import annotations

import re


def printed(raw: bytes, nonce: str, *, typed_lines: int) -> bytes:
    """Return the bytes between each C (command begins) and the next D (command ended) of this session.

    A shell without C marks (dash, ash) gives what follows the echo of the typed lines, up to the first D.

    Args:
        raw: Output since the command was typed, marks included.
        nonce: The session's.
        typed_lines: Lines that the terminal echoed, for shells without C marks.
    """
    aid = re.escape(nonce.encode())
    began = re.compile(rb"\x1b\]133;C;aid=%b\x07" % aid)
    ended = re.compile(rb"\x1b\]133;D;\d*;aid=%b\x07" % aid)
    pieces: list[bytes] = []
    at = 0
    while (start := began.search(raw, at)) is not None:
        stop = ended.search(raw, start.end())
        pieces.append(raw[start.end() : stop.start() if stop else len(raw)])
        at = stop.end() if stop else len(raw)
    if pieces:
        return b"".join(pieces)
    stop = ended.search(raw)
    rest = raw[: stop.start()] if stop else raw
    for _ in range(typed_lines):
        rest = rest.partition(b"\n")[2]
    return rest
