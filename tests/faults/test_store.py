"""Rows K1–K5: a run folder survives a kill at every system call, every full disk, every cut, every flipped bit."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit.trajectories import trajectory

from terminal_gym.errors import ForgedRecord, SchemaMismatch, StoreError, UsageError
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.salvage import salvage
from terminal_gym.trajectory.store import DATA, INDEX, SETTINGS, Run, RunWriter

SET = {"agent": "terminus", "attempts": 1}
PLAYED = [trajectory(f"TerminalTraj/t{k}", turns=1, ids=False) for k in range(3)]
_CALLS = {"open", "mkdir", "ftruncate", "pwrite", "fsync", "replace", "flock", "write", "flush"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "run"
    with RunWriter(folder, SET) as run:
        for played in PLAYED:
            run.append(played)
    return folder


def copy_of(whole: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(whole, folder))


def write_all(folder: Path, say: Callable[[str], None] = lambda task: None) -> None:
    """What every writer here does: go on, and tell of each record once it counts."""
    with RunWriter(folder, SET) as run:
        for played in PLAYED:
            if (played.task, 0) not in run.standing:
                say(run.append(played).task)


# ── killed at every system call ─────────────────────────────────────────────────────────────────


def forked(work: Callable[[Callable[[str], None]], None]) -> tuple[int, set[str]]:
    """Do `work` in a fork; returns its wait status and what it said before its end."""
    out, into = os.pipe()
    if (pid := os.fork()) == 0:
        status = 99
        try:
            work(lambda text: os.write(into, f"{text}\n".encode()) and None)
            status = 0
        finally:
            os._exit(status)
    os.close(into)
    said = b""
    while chunk := os.read(out, 65_536):
        said += chunk
    os.close(out)
    return os.waitpid(pid, 0)[1], set(said.decode().split())


def doomed(number: int) -> None:
    """Die at the `number`-th beginning or end of a system call that the store makes.

    A profile function sees them without changing what is run.
    """
    left = number

    def watch(frame: object, event: str, what: object) -> None:
        nonlocal left
        if event in ("c_call", "c_return") and getattr(what, "__name__", "") in _CALLS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(watch)
    sys.setprofile(watch)


def test_killed_at_every_call_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    for number in range(1, 500):
        folder = tmp_path / f"{number}"

        def work(say: Callable[[str], None], folder: Path = folder, number: int = number) -> None:
            doomed(number)
            write_all(folder, say)

        status, said = forked(work)
        if status == 0:
            assert number > 40, "it was hardly killed"
            return
        assert os.WIFSIGNALED(status), status
        with contextlib.suppress(UsageError):  # killed before there was a run
            assert {row.task for row in Run(folder).rows} >= said
        write_all(folder)
        assert list(Run(folder)) == PLAYED, f"killed at call {number}"
    pytest.fail("it never came to its end")


def test_killed_at_every_call_of_a_repair(whole: Path, tmp_path: Path) -> None:
    for number in range(1, 500):
        folder = copy_of(whole, tmp_path / f"{number}")
        flip(folder / DATA, Run(whole).rows[1].offset + 30)

        def work(say: Callable[[str], None], folder: Path = folder, number: int = number) -> None:
            doomed(number)
            salvage(folder)

        status, _ = forked(work)
        if status == 0:
            assert number > 10
            return
        assert os.WIFSIGNALED(status), status
        assert salvage(folder).kept == 2
        assert list(Run(folder)) == [PLAYED[0], PLAYED[2]]
    pytest.fail("it never came to its end")


# ── no room ─────────────────────────────────────────────────────────────────────────────────────


def test_no_room_at_any_size_breaks_nothing(whole: Path, tmp_path: Path) -> None:
    """A limit on the size of a file: each write that crosses it is short, the next one fails."""
    most = max(file.stat().st_size for file in whole.iterdir())
    for size in range(0, most + 40, 37):
        folder = tmp_path / f"{size}"

        def work(say: Callable[[str], None], folder: Path = folder, size: int = size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            with contextlib.suppress(StoreError):
                write_all(folder, say)

        status, said = forked(work)
        assert status == 0, f"at {size} bytes: another error than StoreError"
        write_all(folder)
        run = Run(folder)
        assert {row.task for row in run.rows[: len(said)]} == said
        assert list(run) == PLAYED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    mounted: list[Path] = []

    def make(pages: int) -> Path:
        folder = tmp_path / f"disk-{pages}"
        folder.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={4 * pages}k", "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(argv, check=False, capture_output=True).returncode:
            pytest.skip("a small tmpfs needs root")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_every_full_disk_stops_the_writer_and_is_gone_on_with(small_disk: Callable[[int], Path]) -> None:
    for pages in range(1, 9):
        disk, said = small_disk(pages), list[str]()
        with contextlib.suppress(StoreError):
            write_all(disk / "run", said.append)
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        write_all(disk / "run")
        assert list(Run(disk / "run")) == PLAYED
        if pages >= 8:
            assert len(said) == 3


# ── damage ──────────────────────────────────────────────────────────────────────────────────────


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def cuts(whole: Path, step: int) -> Iterator[tuple[str, int]]:
    for name in (DATA, INDEX, SETTINGS):
        yield from ((name, at) for at in range(0, (whole / name).stat().st_size, step))


def cut_and_go_on(whole: Path, folder: Path, name: str, cut: int) -> None:
    os.truncate(copy_of(whole, folder) / name, cut)
    if name == SETTINGS:
        with contextlib.suppress(SchemaMismatch):  # but for its last newline
            write_all(folder)
            assert cut >= (whole / name).stat().st_size - 1
        return
    write_all(folder)
    assert sorted(run_of(folder)) == sorted(played.task for played in PLAYED)


def run_of(folder: Path) -> list[str]:
    found: list[Trajectory] = list(Run(folder))
    assert all(played in PLAYED for played in found)
    return [played.task for played in found]


def flip_and_look(whole: Path, folder: Path, name: str, at: int, bit: int) -> None:
    flip(copy_of(whole, folder) / name, at, bit)
    try:
        assert run_of(folder) == [played.task for played in PLAYED[: len(run_of(folder))]]
        write_all(folder)
        assert sorted(run_of(folder)) == sorted(played.task for played in PLAYED)
    except (ForgedRecord, SchemaMismatch):
        if name == SETTINGS:
            return  # nothing else tells what the run was
        done = salvage(folder)
        assert done.kept >= (2 if name == DATA else 3), f"{name} at {at}"
        write_all(folder)
        assert sorted(run_of(folder)) == sorted(played.task for played in PLAYED)


@pytest.mark.parametrize("step", [31, pytest.param(1, marks=pytest.mark.whole)])
def test_cut_at_any_byte_it_goes_on(whole: Path, tmp_path: Path, step: int) -> None:
    for name, cut in cuts(whole, step):
        cut_and_go_on(whole, tmp_path / "run", name, cut)


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.whole)])
def test_no_flipped_bit_is_taken_for_the_truth(whole: Path, tmp_path: Path, step: int) -> None:
    for name, at in cuts(whole, step):
        flip_and_look(whole, tmp_path / "run", name, at, at % 8)


def test_records_around_garbage_are_kept(whole: Path, tmp_path: Path) -> None:
    """Torn, then glued on: a writer that repaired nothing would have left this."""
    folder = copy_of(whole, tmp_path / "run")
    data, rows = (folder / DATA).read_bytes(), Run(folder).rows
    torn = (
        data[: rows[0].length]
        + data[rows[1].offset : rows[1].offset + 50]
        + data[rows[2].offset :]
        + b"\x1f\x8b"
    )
    (folder / DATA).write_bytes(torn)
    with pytest.raises(ForgedRecord, match="tgym repair"):
        RunWriter(folder, SET)
    (folder / INDEX).unlink()
    done = salvage(folder)
    assert (done.kept, [length for _, length in done.damaged]) == (2, [50, 2])
    assert list(Run(folder)) == [PLAYED[0], PLAYED[2]]
    assert [path.read_bytes() for path in (folder / "torn").iterdir()] == [torn]
    assert salvage(folder) == type(done)(2, (), 0, "")


def test_a_record_twice_counts_once(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "run")
    data = (folder / DATA).read_bytes()
    (folder / DATA).write_bytes(data + data)
    assert salvage(folder).doubled == 3
    assert list(Run(folder)) == PLAYED


def test_a_changed_setting_is_found(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "run")
    (folder / SETTINGS).write_text((folder / SETTINGS).read_text().replace("terminus", "oracle"))
    with pytest.raises(SchemaMismatch, match="a setting was changed"):
        Run(folder)
