"""Append-only files: JSON lines that each carry a hash over themselves and all lines before.

A line is `{…,"chain":"<hex>"}`; the chain is SHA-256 over the chain before it and the line up to `,"chain"`. A line
edited by hand, removed or put elsewhere is found on reading. It is no signature: whoever can write the file and
computes the hashes anew is not found.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terminal_gym.errors import DiskFull, ForgedRecord, StoreError

_SEAL = b',"chain":"'
_SEAL_BYTES = len(_SEAL) + 64 + len(b'"}')
Sync = Callable[[int], None]


@dataclass(frozen=True)
class Lines:
    """What a chained file holds."""

    rows: tuple[dict[str, Any], ...]  # without their chain
    chains: tuple[str, ...]  # of each row
    ends: tuple[int, ...]  # offset after each row; what follows the last one is torn

    def upto(self, rows: int) -> tuple[int, str]:
        """(size, chain) of the first `rows` rows"""
        return (self.ends[rows - 1], self.chains[rows - 1]) if rows else (0, "")


def sealed(cells: Mapping[str, object], *, after: str) -> tuple[bytes, str]:
    """Return the line, newline included, and its chain."""
    body = json.dumps(cells, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()[:-1]
    chain = _chain(body, after)
    return body + _SEAL + chain.encode() + b'"}\n', chain


def read_lines(path: Path, *, size: int = 0, chain: str = "") -> Lines:
    """Return the intact lines; a torn tail, as a crash leaves it, is left out.

    Args:
        path: A file that is not there has no lines.
        size: Where to begin, if not at the first line: the offset after a line that was read before.
        chain: The chain of that line.

    Raises:
        ForgedRecord: A whole line is not what was written there; its number counts from where the reading began.
        StoreError: The file cannot be read.
    """
    try:
        data = _bytes_from(path, size)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error
    rows, chains, ends = list[dict[str, Any]](), list[str](), list[int]()
    pieces = data.split(b"\n")
    for number, line in enumerate(pieces[:-1], 1):
        cells = _opened(line, chain)
        if cells is None:
            if any(piece.strip(b"\0") for piece in pieces[number:]) or _is_whole(line):
                raise ForgedRecord(f"{path}:{number}: this line is not what was written. {ADVICE}")
            break  # the last line, and it is damaged: a crash
        chain = line[-66:-2].decode()
        size += len(line) + 1
        rows.append(cells)
        chains.append(chain)
        ends.append(size)
    return Lines(tuple(rows), tuple(chains), tuple(ends))


def _bytes_from(path: Path, size: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(size)
        return file.read()


ADVICE = "Restore the file from a copy, or keep what is whole with `tgym repair RUN`."


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _opened(line: bytes, after: str) -> dict[str, Any] | None:
    body, seal = line[:-_SEAL_BYTES], line[-_SEAL_BYTES:]
    if seal != _SEAL + _chain(body, after).encode() + b'"}':
        return None
    cells = json.loads(body + b"}")
    return cells if isinstance(cells, dict) else None


def _chain(body: bytes, after: str) -> str:
    return hashlib.sha256(after.encode() + body).hexdigest()


class Appender:
    """Appends to a file so that a record is there whole, or not at all.

    Args:
        path: Made where it is missing; whatever follows `size` bytes is cut off.
        size: Where to go on.
        sync: Called with the descriptor after each record; `os.fsync` makes it survive a power cut.
    """

    def __init__(self, path: Path, *, size: int, sync: Sync = os.fsync):
        self.path, self.size, self._sync = path, size, sync
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise unwritten(path, error) from error

    def append(self, data: bytes) -> int:
        """Write `data` at the end; returns its offset.

        Raises:
            DiskFull: There is no room; the file is as it was.
            StoreError: It cannot be written; the file is as it was, as far as the disk allows.
        """
        at = self.size
        try:
            done = 0
            while done < len(data):  # a full disk may take a part without an error
                done += os.pwrite(self._fd, memoryview(data)[done:], at + done)
            self._sync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, at)
            raise unwritten(self.path, error) from error
        self.size += len(data)
        return at

    def close(self) -> None:
        """Close the file. Safe to call again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def unwritten(path: Path, error: OSError) -> StoreError:
    """Return the error that says what a failed write means."""
    advice = (
        "Nothing of the record was kept; what was stored before is whole. Make room, then resume the run."
    )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{path} cannot grow: {error.strerror}. {advice}")
    return StoreError(f"{path} cannot be written: {error.strerror}. {advice}")
