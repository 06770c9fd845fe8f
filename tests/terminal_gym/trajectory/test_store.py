import contextlib
import gzip
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.trajectories import trajectory

from terminal_gym.errors import BadSetting, DiskFull, ForgedRecord, RunBusy, SchemaMismatch, StoreError
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.store import DATA, INDEX, SETTINGS, Run, RunWriter

PLAYED = [trajectory(f"TerminalTraj/t{k}", turns=2) for k in range(3)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "run"
    with RunWriter(folder, {"agent": "terminus"}) as run:
        for played in PLAYED:
            run.append(played)
    return folder


def copy_of(whole: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(whole, folder))


def test_what_was_written_is_read(whole: Path) -> None:
    run = Run(whole)
    assert list(run) == PLAYED
    assert run.settings == {"agent": "terminus"}
    assert [row.steps for row in run.rows] == [2, 2, 2]
    with gzip.open(whole / DATA, "rt") as file:  # any gzip reader shows the records
        assert [json.loads(line)["task"] for line in file] == [played.task for played in PLAYED]


def test_a_second_writer_goes_on(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "run")
    more = trajectory("TerminalTraj/more")
    with RunWriter(folder, {"agent": "terminus"}) as run:
        assert run.recovered == 0
        assert set(run.standing) == {(played.task, 0) for played in PLAYED}
        run.append(more)
    assert list(Run(folder)) == [*PLAYED, more]


def test_other_settings_are_refused(whole: Path) -> None:
    with pytest.raises(BadSetting, match="agent is 'terminus' there and 'bash' here"):
        RunWriter(whole, {"agent": "bash"})


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadSetting, match="not empty"):
        RunWriter(tmp_path, {})


def test_a_record_that_cannot_be_listed_is_not_kept(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "run")
    timeless = replace(trajectory("TerminalTraj/more"), seconds={"total": float("nan")})
    with RunWriter(folder, {"agent": "terminus"}) as run:
        with pytest.raises(StoreError, match="TerminalTraj/more attempt 0 cannot be listed"):
            run.append(timeless)
        run.append(replace(timeless, seconds={"total": 1.0}))
    assert [played.task for played in Run(folder)] == [*(one.task for one in PLAYED), "TerminalTraj/more"]


@pytest.mark.parametrize(
    ("text", "error"),
    [(None, BadSetting), ("{", SchemaMismatch), ("[]", SchemaMismatch), ('{"version": 99}', SchemaMismatch)],
)
def test_what_is_no_run(tmp_path: Path, text: str | None, error: type[Exception]) -> None:
    if text is not None:
        (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(error):
        Run(tmp_path)


def test_only_one_writes(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "run")
    with RunWriter(folder, {"agent": "terminus"}):
        with pytest.raises(RunBusy, match=f"process {os.getpid()} "):
            RunWriter(folder, {"agent": "terminus"})
        assert len(Run(folder)) == 3
    with RunWriter(folder, {"agent": "terminus"}):
        pass


# ── attempts ────────────────────────────────────────────────────────────────────────────────────


def test_a_broken_attempt_may_be_tried_again_and_no_other(tmp_path: Path) -> None:
    broken, failed = trajectory(status="broken"), trajectory(status="failed")
    with RunWriter(tmp_path / "run", {}) as run:
        run.append(broken)
        run.append(failed)
        with pytest.raises(StoreError, match="on record as failed"):
            run.append(trajectory())
    stored = Run(tmp_path / "run")
    assert list(stored) == [failed]
    assert len(stored.rows) == 2


# ── after a crash ───────────────────────────────────────────────────────────────────────────────


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_cut_anywhere_every_whole_record_is_kept(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([DATA, INDEX]))
    cut = data.draw(st.integers(0, (whole / name).stat().st_size))
    folder = copy_of(whole, tmp_path_factory.getbasetemp() / "cut")
    os.truncate(folder / name, cut)
    ends = [row.offset + row.length for row in Run(whole).rows]
    kept = sum(end <= cut for end in ends) if name == DATA else 3
    with RunWriter(folder, {"agent": "terminus"}) as run:
        assert len(run.standing) == kept
        run.append(trajectory("TerminalTraj/more"))
    assert list(Run(folder)) == [*PLAYED[:kept], trajectory("TerminalTraj/more")]
    with RunWriter(folder, {"agent": "terminus"}) as run:
        assert len(run.standing) == kept + 1


@pytest.mark.parametrize("garbage", [b"\0" * 4096, b"\x1f\x8b\x08garbage", b'{"task": "half a li'])
@pytest.mark.parametrize("name", [DATA, INDEX])
def test_a_garbage_tail_is_set_aside(whole: Path, tmp_path: Path, name: str, garbage: bytes) -> None:
    folder = copy_of(whole, tmp_path / "run")
    with (folder / name).open("ab") as file:
        file.write(garbage)
    assert list(Run(folder)) == PLAYED
    with RunWriter(folder, {"agent": "terminus"}) as run:
        assert len(run.standing) == 3
    kept = [path.read_bytes() for path in (folder / "torn").iterdir()] if garbage.strip(b"\0") else []
    assert kept == ([garbage] if garbage.strip(b"\0") else [])


def test_an_index_that_is_gone_is_made_again(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "run")
    (folder / INDEX).unlink()
    with RunWriter(folder, {"agent": "terminus"}) as run:
        assert run.recovered == 3
    assert (folder / INDEX).read_bytes() == (whole / INDEX).read_bytes()


def test_killed_while_writing_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    for number in range(5):
        acknowledged = _killed_writer(tmp_path / "run", number)
        with RunWriter(tmp_path / "run", {}) as run:
            assert {row.task for row in run.standing.values()} >= acknowledged
        assert acknowledged


def _killed_writer(folder: Path, number: int) -> set[str]:
    program = (
        "import sys; from pathlib import Path; from kit.trajectories import trajectory\n"
        "from terminal_gym.trajectory.store import RunWriter\n"
        "run = RunWriter(Path(sys.argv[1]), {})\n"
        "for k in range(10**6):\n"
        "    print(run.append(trajectory(f'TerminalTraj/{sys.argv[2]}-{k}')).task, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-c", program, str(folder), str(number)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(7 + 5 * number)]
        writer.send_signal(signal.SIGKILL)
        said += [line for line in writer.stdout if line.endswith("\n")]
    return {line.strip() for line in said}


# ── forged rows ─────────────────────────────────────────────────────────────────────────────────


def test_an_edited_index_is_refused(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "run")
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace('"reward":1.0', '"reward":0.0', 1))
    with pytest.raises(ForgedRecord, match=r"index.jsonl:1: .*Restore"):
        Run(folder)
    with pytest.raises(ForgedRecord):
        RunWriter(folder, {"agent": "terminus"})


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_removed_row_is_refused_unless_it_is_the_last(whole: Path, tmp_path: Path, number: int) -> None:
    folder = copy_of(whole, tmp_path / "run")
    lines = (folder / INDEX).read_bytes().splitlines(keepends=True)
    (folder / INDEX).write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
    with contextlib.nullcontext() if number == 2 else pytest.raises(ForgedRecord):
        assert len(Run(folder)) == 2


def test_an_edited_record_is_refused(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "run")
    row = Run(whole).rows[1]
    data = (folder / DATA).read_bytes()
    member = gzip.decompress(data[row.offset : row.offset + row.length])
    forged = gzip.compress(member.replace(b'"task"', b'"tusk"'), 1, mtime=0)[: row.length].ljust(
        row.length, b"\0"
    )
    (folder / DATA).write_bytes(data[: row.offset] + forged + data[row.offset + row.length :])
    run = Run(folder)
    with pytest.raises(ForgedRecord, match="TerminalTraj/t1 attempt 0"):
        run.read(run.rows[1])
    assert run.read(run.rows[2]) == PLAYED[2]
    before = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "lock"
    }
    with pytest.raises(ForgedRecord):
        RunWriter(folder, {"agent": "terminus"})
    assert before == {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "lock"
    }


# ── a full disk ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(argv, check=False, capture_output=True).returncode:
        pytest.skip("a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_breaks_no_record(small_disk: Path) -> None:
    run = RunWriter(small_disk / "run", {})
    stored: list[Trajectory] = []
    with pytest.raises(DiskFull, match="Make room"):
        _fill(run, stored)
    assert stored
    assert list(Run(small_disk / "run"))[: len(stored)] == stored
    run.close()
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    with RunWriter(small_disk / "run", {}) as again:
        again.append(trajectory("TerminalTraj/after"))
    assert list(Run(small_disk / "run"))[-1].task == "TerminalTraj/after"


def _fill(run: RunWriter, stored: list[Trajectory]) -> None:
    for k in range(1000):
        noise = {"noise": os.urandom(500).hex()}
        played = replace(trajectory(f"TerminalTraj/{k}", turns=20), versions=noise)
        run.append(played)
        stored.append(played)


def test_a_record_that_cannot_be_synced_is_not_kept(tmp_path: Path) -> None:
    failing = iter([None, OSError(5, "Input/output error"), None])

    def sync(fd: int) -> None:
        if error := next(failing):
            raise error

    with RunWriter(tmp_path / "run", {}, sync=sync) as run:
        run.append(PLAYED[0])
        with pytest.raises(StoreError, match="Input/output error"):
            run.append(PLAYED[1])
        run.append(PLAYED[2])
    assert list(Run(tmp_path / "run")) == [PLAYED[0], PLAYED[2]]


def test_many_threads_append(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with RunWriter(tmp_path / "run", {}) as run, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: run.append(trajectory(f"TerminalTraj/{k}")), range(64)))
    assert sorted(played.task for played in Run(tmp_path / "run")) == sorted(
        f"TerminalTraj/{k}" for k in range(64)
    )


def test_a_reader_beside_a_writer_sees_whole_records_only(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with RunWriter(tmp_path / "run", {}) as run:
        reader = context.Process(target=_read_often, args=(tmp_path / "run",))
        reader.start()
        for k in range(100):
            run.append(trajectory(f"TerminalTraj/{k}"))
        reader.join(60)
    assert reader.exitcode == 0


def _read_often(folder: Path) -> None:
    for _ in range(20):
        for played in Run(folder):
            assert played == trajectory(played.task)
