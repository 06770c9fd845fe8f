"""Run folders: the trajectories of a run, append-only, one writer, whole after any crash.

    run.json               what was asked for: version and settings
    trajectories.jsonl.gz  one gzip member per trajectory, each one line of JSON: `zcat` reads it
    index.jsonl            one chained line per trajectory: where it is, its hash, and what lists need
    lock                   held by the writer
    torn/                  what a crash left half-written, moved away by the next writer

A record counts once its gzip member is on the disk: the index is made again from there. An attempt whose record is
broken may be tried again; of its records the last one stands.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import mmap
import operator
import os
import socket
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from terminal_gym.errors import BadSetting, ForgedRecord, RunBusy, SchemaMismatch, StoreError
from terminal_gym.trajectory.chain import ADVICE, Appender, Sync, read_lines, sealed, unwritten
from terminal_gym.trajectory.codec import from_json, to_json
from terminal_gym.trajectory.record import Status, Trajectory
from terminal_gym.trajectory.redact import Redactor

VERSION = 1
SETTINGS, DATA, INDEX, LOCK, TORN = "run.json", "trajectories.jsonl.gz", "index.jsonl", "lock", "torn"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the index."""

    task: str
    attempt: int
    status: Status
    reward: float | None
    reason: str
    limit: str
    agent: str
    model: str
    runtime: str
    task_hash: str
    steps: int
    turns: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    seconds: float  # of the whole episode, wall clock
    began_at: str
    offset: int  # of the gzip member
    length: int  # of the gzip member, bytes
    sha256: str  # of the gzip member

    @property
    def key(self) -> tuple[str, int]:
        """(task, attempt)"""
        return self.task, self.attempt


_NUMBER, _NONE = (int, float), type(None)
_KIND_OF: Mapping[str, Any] = {"int": int, "float": _NUMBER, "float | None": (*_NUMBER, _NONE)}
_KINDS: tuple[Any, ...] = tuple(_KIND_OF.get(str(Row.__annotations__[name]), str) for name in Row.__slots__)
_cells = operator.attrgetter(*Row.__slots__)


class Run:
    """A run folder, to be read; also while another process writes to it.

    Raises:
        BadSetting: There is no run in this folder.
        SchemaMismatch: It was written by a version that this one does not know.
        ForgedRecord: A line of the index is not what was written.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.settings = read_settings(self.folder)
        self.rows: tuple[Row, ...] = ()
        self.standing: Mapping[tuple[str, int], Row] = {}
        self._read: tuple[int, str] = (0, "")  # (size, chain) of the index as far as it was read
        self.refresh()

    def refresh(self) -> int:
        """Take in what was written since, without reading the rest again; returns the number of new rows.

        Raises:
            ForgedRecord: A line of the index is not what was written, or some are gone.
        """
        size, chain = self._read
        path = self.folder / INDEX
        if size and (not path.exists() or path.stat().st_size < size):
            raise ForgedRecord(f"{path} is shorter than it was: lines are gone. Open the run again.")
        lines = read_lines(path, size=size, chain=chain)
        new = rows_of(lines.rows)
        if new:
            self._read = lines.ends[-1], lines.chains[-1]
            self.rows += new
            self.standing = {**self.standing, **{row.key: row for row in new}}
        return len(new)

    def __len__(self) -> int:
        """Return the number of attempts on record."""
        return len(self.standing)

    def __iter__(self) -> Iterator[Trajectory]:
        """Yield the standing trajectories, one at a time, in the order in which they ended."""
        return self.read_all(self.standing.values())

    def read(self, row: Row) -> Trajectory:
        """Return the trajectory of a row.

        Raises:
            ForgedRecord: Its bytes are not what was written.
        """
        return next(self.read_all([row]))

    def read_all(self, rows: Iterable[Row]) -> Iterator[Trajectory]:
        """Yield the trajectories of `rows`; raises as `read` does."""
        path = self.folder / DATA
        try:
            with path.open("rb") as file:
                for row in rows:
                    room = max(
                        0, path.stat().st_size - row.offset
                    )  # a row may claim more than there is to be read
                    member = b"" if not room else os.pread(file.fileno(), min(row.length, room), row.offset)
                    yield from_json(Trajectory, gzip.decompress(_checked(path, row, member)))
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error


class RunWriter:
    """Appends to a run folder; makes it, or repairs what a crash left and goes on. Safe to use from many threads.

    Args:
        folder: Made where it is missing.
        settings: JSON values, kept in run.json. A folder that holds a run must have been made with the same.
        sync: Makes a record survive a power cut.
        secrets: Taken out of every record, as `redact.py` finds them.

    Raises:
        RunBusy: Another process writes to it.
        BadSetting: It holds a run with other settings, or other files.
        ForgedRecord: A record is not what was written; nothing was changed.
        StoreError: It cannot be written.
    """

    def __init__(
        self,
        folder: Path | str,
        settings: Mapping[str, Any],
        *,
        sync: Sync = os.fsync,
        secrets: Iterable[str] = (),
    ):
        self.folder, self._redactor = Path(folder), Redactor(secrets)
        self._mutex = threading.Lock()
        with contextlib.ExitStack() as undo:
            self._lock = _locked(self.folder)
            undo.callback(os.close, self._lock)
            _claim(self.folder, settings)
            self.recovered = self._open(sync)
            undo.pop_all()
        self.settings = dict(settings)

    def _open(self, sync: Sync) -> int:
        """Repair; returns how many records the index had lost."""
        lines = read_lines(self.folder / INDEX)
        known = rows_of(lines.rows)
        rows, end = _intact(self.folder / DATA, known)
        lost, end = _beyond(self.folder / DATA, end)
        size, self._chain = lines.upto(len(rows))
        put_aside(self.folder, INDEX, after=size)
        put_aside(self.folder, DATA, after=end)
        self._data = Appender(self.folder / DATA, size=end, sync=sync)
        self._index = Appender(self.folder / INDEX, size=size, sync=lambda fd: None)
        _sync_names(self.folder)
        self._unlisted = list(lost)
        self._list()
        self.standing = {row.key: row for row in (*rows, *lost)}
        return len(lost)

    def append(self, played: Trajectory) -> Row:
        """Store one trajectory; returns its row once it is on the disk.

        Raises:
            DiskFull: There is no room; nothing of it was kept.
            StoreError: It cannot be written or listed, or its attempt is on record already and not as broken.
        """
        played = self._redactor.trajectory(played)
        member = gzip.compress(to_json(played) + b"\n", compresslevel=1, mtime=0)
        with self._mutex:
            known = self.standing.get((played.task, played.attempt))
            if known is not None and known.status != "broken":
                raise StoreError(f"{played.task} attempt {played.attempt} is on record as {known.status}.")
            try:
                sealed(_index_cells(_row(played, 0, member)), after="")
            except ValueError as error:  # before anything is written
                raise StoreError(
                    f"{played.task} attempt {played.attempt} cannot be listed: a reward or a time of it is no number."
                ) from error
            offset = self._data.append(member)
            row = _row(played, offset, member)
            self.standing[row.key] = row
            self._unlisted.append(row)
            self._list()
            return row

    def _list(self) -> None:
        """Write the index lines that are still to be written: a full disk may have let a record in, but no line."""
        while self._unlisted:
            line, chain = sealed(_index_cells(self._unlisted[0]), after=self._chain)
            self._index.append(line)
            self._chain = chain
            del self._unlisted[0]

    def close(self) -> None:
        """Give the folder up. Safe to call again."""
        with self._mutex:
            self._data.close()
            self._index.close()
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# ── rows ────────────────────────────────────────────────────────────────────────────────────────


def _index_cells(row: Row) -> dict[str, object]:
    return {name: getattr(row, name) for name in Row.__slots__}


def _row(played: Trajectory, offset: int, member: bytes) -> Row:
    usage = played.usage
    return Row(
        task=played.task,
        attempt=played.attempt,
        status=played.outcome.status,
        reward=played.outcome.reward,
        reason=played.outcome.reason[:500],
        limit=played.limit,
        agent=played.agent,
        model=played.model,
        runtime=played.runtime,
        task_hash=played.task_hash,
        steps=len(played.steps),
        turns=len(played.turns),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=usage.cost_usd,
        seconds=round(played.seconds.get("total", 0.0), 4),
        began_at=played.began_at,
        offset=offset,
        length=len(member),
        sha256=hashlib.sha256(member).hexdigest(),
    )


def rows_of(lines: Iterable[Mapping[str, Any]]) -> tuple[Row, ...]:
    """Return the rows that the index's lines say.

    Raises:
        SchemaMismatch: A line has other cells, or cells of another kind.
    """
    try:
        rows = tuple(Row(**cells) for cells in lines)
    except TypeError as error:
        raise SchemaMismatch(f"The index has rows of another version: {error}") from error
    for row in rows:
        fits = all(map(isinstance, _cells(row), _KINDS)) and row.offset >= 0 and row.length > 0
        if not fits:
            found = f"{row.task!r:.80} attempt {row.attempt!r:.20}"
            raise SchemaMismatch(f"The index has a row that none was written like: {found}. {ADVICE}")
    return rows


def _checked(path: Path, row: Row, member: bytes) -> bytes:
    if hashlib.sha256(member).hexdigest() != row.sha256:
        found = "ends before it" if len(member) < row.length else "holds other bytes there"
        raise ForgedRecord(f"{path}: {row.task} attempt {row.attempt}: the file {found}. {ADVICE}")
    return member


def _intact(path: Path, rows: Sequence[Row]) -> tuple[Sequence[Row], int]:
    """(rows whose bytes are there and are what was written; where they end)"""
    end = 0
    size = path.stat().st_size if path.exists() else 0
    with path.open("rb") if rows and size else contextlib.nullcontext() as file:
        for number, row in enumerate(rows):
            if file is None or row.offset + row.length > size:
                return rows[:number], end
            file.seek(row.offset)
            _checked(path, row, file.read(row.length))
            end = row.offset + row.length
    return rows, end


def _beyond(path: Path, end: int) -> tuple[list[Row], int]:
    """(rows of whole records after `end`; where they end)"""
    rows: list[Row] = []
    if not path.exists():
        return rows, end
    with path.open("rb") as file:
        while member := member_at(file, end):
            rows.append(_row(from_json(Trajectory, gzip.decompress(member)), end, member))
            end += len(member)
    return rows, end


def member_at(file: BinaryIO | mmap.mmap, at: int) -> bytes:
    """Return the gzip member that begins at `at`, nothing where none is whole."""
    file.seek(at)
    reader = zlib.decompressobj(wbits=31)
    member = b""
    try:
        while not reader.eof and (chunk := file.read(1 << 16)):
            member += chunk
            reader.decompress(chunk)
    except zlib.error:
        return b""
    return member[: len(member) - len(reader.unused_data)] if reader.eof else b""


# ── the folder ──────────────────────────────────────────────────────────────────────────────────


def read_settings(folder: Path) -> dict[str, Any]:
    """Return what run.json says was asked for.

    Raises:
        BadSetting: There is no run in this folder.
        SchemaMismatch: The file is damaged, or of another version.
    """
    path = folder / SETTINGS
    try:
        body = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BadSetting(f"{folder} holds no run: there is no {SETTINGS} in it.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SchemaMismatch(f"{path} cannot be read: {error}") from error
    if not isinstance(body, dict) or body.get("version") != VERSION:
        found = body.get("version") if isinstance(body, dict) else body
        raise SchemaMismatch(f"{path} has version {found!r}; this terminal-gym reads version {VERSION}.")
    settings = body.get("settings")
    if not isinstance(settings, dict) or body.get("sha256", _hash(settings)) != _hash(settings):
        raise SchemaMismatch(
            f"{path} is not what was written: a setting was changed. Restore it from a copy."
        )
    return settings


def _hash(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write run.json, or see that it says the same."""
    path = folder / SETTINGS
    if not path.exists():
        others = sorted({entry.name for entry in folder.iterdir()} - {LOCK, f"{SETTINGS}.new"})
        if others:
            raise BadSetting(f"{folder} is no run folder and not empty: {others[0]}. Name a new folder.")
        body = {"version": VERSION, "settings": dict(settings), "sha256": _hash(settings)}
        _write_atomically(path, json.dumps(body, indent=1) + "\n")
        return
    known, wanted = read_settings(folder), json.loads(json.dumps(dict(settings)))
    for name in [*known, *wanted]:
        if known.get(name) != wanted.get(name):
            found = f"{name} is {known.get(name)!r:.200} there and {wanted.get(name)!r:.200} here"
            raise BadSetting(f"{folder} holds a run with other settings: {found}. Name a new folder.")


def _write_atomically(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise unwritten(path, error) from error
    _sync_names(path.parent)


def _sync_names(folder: Path) -> None:
    """Make the names of new files survive a power cut."""
    try:
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise unwritten(folder, error) from error


@contextlib.contextmanager
def locked(folder: Path, *, name: str = LOCK) -> Iterator[None]:
    """Hold a lock of the folder while the block runs.

    Raises:
        RunBusy: Somebody else holds it.
    """
    fd = _locked(folder, name)
    try:
        yield
    finally:
        os.close(fd)


def _locked(folder: Path, name: str = LOCK) -> int:
    """Make the folder and take its lock; returns the descriptor that holds it. The kernel frees a dead owner's."""
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}. Name a folder of your own.") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "unknown"
        os.close(fd)
        raise RunBusy(f"{folder} is being written to by {holder}. Wait for it, or stop it.") from None
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return fd


def put_aside(folder: Path, name: str, *, after: int = 0) -> None:
    """Copy what follows `after` bytes of a file to torn/: nothing is thrown away.

    Raises:
        StoreError: It cannot be written; the file is as it was.
    """
    path = folder / name
    if not path.exists() or path.stat().st_size <= after:
        return
    with path.open("rb") as file:
        file.seek(after)
        rest = file.read()
    if not rest.strip(b"\0"):
        return
    aside = folder / TORN
    try:
        aside.mkdir(exist_ok=True)
        number = len(list(aside.iterdir()))
        (aside / f"{number:04d}-{name}-from-{after}").write_bytes(rest)
    except OSError as error:
        raise unwritten(aside, error) from error
