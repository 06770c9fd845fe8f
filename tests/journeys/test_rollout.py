"""A rollout is killed at random moments and gone on with; it ends with exactly what was planned."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from kit.waiting import wait_until

from terminal_gym.sandbox.base import Runtime
from terminal_gym.trajectory.store import Run

HELLO = Path(__file__).parents[1] / "kit/tasks/hello"
TGYM = Path(sys.executable).with_name("tgym")


def tgym(*words: str | Path, **settings: object) -> subprocess.Popen[str]:
    argv = [TGYM, *map(str, words)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)  # type: ignore[call-overload,no-any-return]


def ended(command: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = command.communicate(timeout=120)
    return command.returncode, out, err


def _begun(folder: Path, command: subprocess.Popen[str]) -> bool:
    return (folder / "run.json").exists() or command.poll() is not None


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.jsonl"
    path.write_text(json.dumps({"path": str(HELLO)}) + "\n")
    return path


def test_killed_at_random_moments_and_resumed(any_runtime: Runtime, manifest: Path, tmp_path: Path) -> None:
    chance, folder, name = random.Random(4), tmp_path / "run", any_runtime.name
    begin = [
        "rollout",
        manifest,
        "--agent",
        "oracle",
        "--attempts",
        "12",
        "--concurrency",
        "4",
        "--runtime",
        name,
    ]
    kept = 0
    for number in range(10):
        words = [*begin, "--out", folder] if not (folder / "run.json").exists() else _resume(folder, name)
        command = tgym(*words)
        if number == 0:  # a run that has not begun is nothing to go on with
            wait_until(functools.partial(_begun, folder, command), deadline_s=60.0)
        try:
            command.wait(chance.uniform(0.3, 2.0))
        except subprocess.TimeoutExpired:
            command.send_signal(signal.SIGKILL)
        command.communicate()
        if (folder / "run.json").exists():
            assert len(Run(folder)) >= kept, "a finished attempt was lost"
            kept = len(Run(folder))
    code, out, err = ended(tgym(*_resume(folder, name), "--json"))
    assert code == 0, err
    run, told = Run(folder), json.loads(out)
    assert sorted(run.standing) == [("TerminalTraj/hello", k) for k in range(12)]
    assert len(run.rows) == 12, "an attempt was played twice"
    assert {row.status for row in run.rows} == {"passed"}
    assert (told["planned"], told["finished"], told["passed"], told["broken"]) == (12, 12, 12, 0)
    assert all(played.frames and played.steps for played in run)
    any_runtime.reap()


def _resume(folder: Path, runtime: str) -> list[str | Path]:
    return ["rollout", "--resume", folder, "--runtime", runtime]


def test_interrupted_once_it_ends_what_runs(any_runtime: Runtime, manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["--attempts", "500", "--out", folder, "--runtime", any_runtime.name]
    command = tgym("rollout", manifest, *words)
    _wait_for_records(folder, 2)
    command.send_signal(signal.SIGINT)
    code, _, err = ended(command)
    assert code == 130
    assert f"--resume {folder}" in err
    assert Counter(row.status for row in Run(folder).rows).keys() == {"passed"}


def test_interrupted_twice_it_ends_at_once_and_leaves_nothing(
    any_runtime: Runtime, manifest: Path, tmp_path: Path
) -> None:
    folder, script = tmp_path / "run", tmp_path / "script.yaml"
    mark = f"29{os.getpid()}"  # seconds that its episodes would take
    script.write_text(json.dumps([{"text": f"sleep {mark}\n", "wait_s": 900}]))
    words = ["--agent", "scripted", "--agent-setting", f"script={script}", "--out", folder]
    command = tgym("rollout", manifest, *words, "--attempts", "4", "--runtime", any_runtime.name)
    assert wait_until(lambda: _sleepers(mark) > 0, deadline_s=60.0)
    command.send_signal(signal.SIGINT)
    assert command.stderr is not None
    assert "press Ctrl-C again" in next(line for line in command.stderr if "stopping" in line)
    command.send_signal(signal.SIGINT)
    code, _, err = ended(command)
    assert code == 130, err
    assert not Run(folder).rows
    assert not _sleepers(mark)
    assert not any_runtime.reap(), "the next start has something to remove"


def _sleepers(mark: str) -> int:
    """Count the processes on this machine that sleep so long."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += path.read_bytes().endswith(b"sleep\0" + mark.encode() + b"\0")
    return found


def _wait_for_records(folder: Path, count: int) -> None:
    until = time.monotonic() + 60.0
    while not (folder / "index.jsonl").exists() or len(Run(folder)) < count:
        assert time.monotonic() < until, "no record came"
        time.sleep(0.05)


def test_a_second_engine_on_the_folder_is_refused(
    any_runtime: Runtime, manifest: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    first = tgym("rollout", manifest, "--attempts", "500", "--out", folder, "--runtime", any_runtime.name)
    try:
        _wait_for_records(folder, 1)
        code, _, err = ended(tgym(*_resume(folder, any_runtime.name)))
        assert code == 3
        assert f"is being written to by process {first.pid}" in err
    finally:
        first.send_signal(signal.SIGINT)
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)


@pytest.mark.parametrize(
    "words",
    [
        ["rollout"],
        ["rollout", "./nowhere", "--out", "x"],
        ["rollout", str(HELLO)],
        ["rollout", str(HELLO), "--out", "x", "--resume", "y"],
        ["rollout", "--resume", "nowhere"],
        ["rollout", str(HELLO), "--out", "x", "--attempts", "0"],
        ["rollout", str(HELLO), "--out", "x", "--agent", "oracel"],
        ["rollout", str(HELLO), "--out", "x", "--model", "opnai/x"],
        ["rollout", str(HELLO), "--out", "x", "--model-setting", "api_key=sk-secret"],
        ["rollout", str(HELLO), "--out", "x", "--agent-setting", "nonsense"],
        ["stats", "nowhere"],
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_usage_and_makes_no_folder(words: list[str], tmp_path: Path) -> None:
    code, out, err = ended(tgym(*words, cwd=tmp_path))
    assert code == 2
    assert not out
    assert err.strip()
    assert not list(tmp_path.iterdir())
