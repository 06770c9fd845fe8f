"""Repairs a run folder that is damaged in the middle: what is whole is kept, what is not is set aside, and said.

A crash leaves a torn end, which every writer repairs by itself. This is for the rest: a flipped bit, a page that never
reached the disk, an edited line. It is asked for by name (`tgym repair`), since it drops records.

What it does not promise: to tell a forged record from a real one where the index is damaged as well. Where the index is
intact up to a record, a record that is not what was written goes.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from terminal_gym.errors import ForgedRecord, SchemaMismatch
from terminal_gym.trajectory.chain import read_lines, unwritten
from terminal_gym.trajectory.codec import from_json
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.store import (
    DATA,
    INDEX,
    RunWriter,
    locked,
    member_at,
    put_aside,
    read_settings,
    rows_of,
)

Span = tuple[int, int]  # first byte, bytes
_MAGIC = b"\x1f\x8b\x08"  # of a gzip member; source: RFC 1952


@dataclass(frozen=True)
class Salvaged:
    """What a repair found."""

    kept: int  # records
    damaged: tuple[Span, ...]  # each stretch of the data file that holds none
    doubled: int  # records of an attempt that has a verdict already: the first stands
    index: str  # what was wrong with the index, "" if nothing


def salvage(folder: Path) -> Salvaged:
    """Repair; returns what was kept. The files as they were lie in `torn/` then. Safe to ask for again.

    Raises:
        BadSetting: There is no run in the folder.
        SchemaMismatch: `run.json` is damaged: nothing tells what the run was, so restore it from a copy.
        RunBusy: Another process writes to it.
        StoreError: It cannot be written.
    """
    settings = read_settings(folder)
    with locked(folder), _mapped(folder / DATA) as data:
        trusted, listed, wrong = _trusted(folder)
        whole, damaged, doubled = list[Span](), list[Span](), 0
        verdicts = set[tuple[str, int]]()
        for span, played in _scan(data, trusted):
            if played is None:
                damaged.append(span)
            elif (played.task, played.attempt) in verdicts:
                doubled += 1
            else:
                whole.append(span)
                if played.outcome.status != "broken":
                    verdicts.add((played.task, played.attempt))
        if not wrong and listed != whole[: len(listed)]:
            wrong = "it lists other records than there are"
        if damaged or doubled or wrong:
            _replace(folder, data or b"", whole)
    RunWriter(folder, settings).close()  # makes the index again
    return Salvaged(len(whole), tuple(damaged), doubled, wrong)


def _trusted(folder: Path) -> tuple[dict[int, str], list[Span], str]:
    """(offset → sha256 of the records that an intact index vouches for, where they lie, what is wrong with it)"""
    try:
        rows = rows_of(read_lines(folder / INDEX).rows)
    except (ForgedRecord, SchemaMismatch) as error:
        return {}, [], str(error)
    return {row.offset: row.sha256 for row in rows}, [(row.offset, row.length) for row in rows], ""


def _scan(data: mmap.mmap | None, trusted: dict[int, str]) -> Iterator[tuple[Span, Trajectory | None]]:
    """Yield (stretch, record) in order; None stands for a stretch that is no record."""
    at = begin = 0
    size = 0 if data is None else len(data)
    while data is not None and at < size:
        member = member_at(data, at)
        played = _record(member, trusted.get(at)) if member else None
        if played is None:
            found = data.find(_MAGIC, at + 1)
            at = size if found < 0 else found
            continue
        if begin < at:
            yield (begin, at - begin), None
        yield (at, len(member)), played
        at = begin = at + len(member)
    if data is not None and data[begin:].strip(b"\0"):
        yield (begin, size - begin), None


def _record(member: bytes, sha256: str | None) -> Trajectory | None:
    if sha256 is not None and hashlib.sha256(member).hexdigest() != sha256:
        return None
    try:
        return from_json(Trajectory, gzip.decompress(member))
    except SchemaMismatch:
        return None


def _replace(folder: Path, data: mmap.mmap | bytes, whole: list[Span]) -> None:
    """Keep those stretches of the data file only. The index goes first: one that does not fit would condemn them."""
    put_aside(folder, INDEX)
    put_aside(folder, DATA)
    try:
        (folder / INDEX).unlink(missing_ok=True)
        new = folder / f"{DATA}.new"
        with new.open("wb") as file:
            for at, length in whole:
                file.write(data[at : at + length])
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / DATA)
    except OSError as error:
        raise unwritten(folder / DATA, error) from error


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | None]:
    """Lend the file's bytes, None where there are none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        if os.fstat(file.fileno()).st_size == 0:
            yield None
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
