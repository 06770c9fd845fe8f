"""Rows J6, J9, H, K4: what goes wrong on the machine itself. Nothing of it is paid, and nothing of it is punished."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from faults.conftest import HELLO, play
from kit.waiting import wait_until

from terminal_gym.env import TerminalEnv
from terminal_gym.sandbox import nursery
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.sandbox.namespace import Machine, Namespace
from terminal_gym.sandbox.reaper import current_owner, is_orphan
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.task import Mode, Task
from terminal_gym.trajectory.record import Action
from terminal_gym.trajectory.store import Run

SOLVE = "printf 'hello, world\\n500500\\n' > /app/greeting.txt\n"


@pytest.fixture
def namespace() -> Iterator[Runtime]:
    with closing(open_runtime("namespace")) as runtime:
        runtime.build(find_task(HELLO).image)
        yield runtime


def hello(mode: Mode = "artifacts") -> Task:
    task = find_task(HELLO)
    return replace(task, validator=replace(task.validator, mode=mode))


def keeper_of(env: TerminalEnv) -> int:
    sandbox = env.sandbox
    assert isinstance(sandbox, Machine)
    assert sandbox._keeper is not None
    return sandbox._keeper.pid


def nursery_of(env: TerminalEnv) -> int:
    return nursery.nursery()._process.pid


@pytest.mark.parametrize("victim", [keeper_of, nursery_of])
@pytest.mark.parametrize("mode", ["artifacts", "restart"])
def test_a_sandbox_that_the_kernel_kills_is_broken(
    namespace: Runtime, mode: Mode, victim: Callable[[TerminalEnv], int]
) -> None:
    """As its OOM killer may: once the work is done, before anybody judged it."""
    if victim is nursery_of and not nursery.is_possible():
        pytest.skip("no nursery: not root, or an old kernel")
    with TerminalEnv(hello(mode), runtime=namespace, step_s=5.0) as env:
        env.reset()
        env.step(SOLVE)
        console = env.sandbox._line  # type: ignore[attr-defined]
        os.kill(victim(env), signal.SIGKILL)
        assert wait_until(lambda: console.init_pid() is None, deadline_s=10)
        _, reward, _, truncated, info = env.step("<submit>")
    assert (info["status"], truncated) == ("broken", True), info
    assert reward != reward


def test_a_session_that_is_ended_from_outside_is_broken(namespace: Runtime) -> None:
    """What the shell would have done next nobody knows: half of the work is not to be judged."""
    with TerminalEnv(hello(), runtime=namespace, step_s=5.0) as env:
        env.reset()
        console = env._console
        assert console is not None
        first = console.init_pid()
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: console.init_pid() is None, deadline_s=10)
        _, reward, terminated, truncated, info = env.step(SOLVE)
    assert (info["status"], terminated, truncated) == ("broken", False, True), info
    assert "was killed from outside" in info["reason"]
    assert reward != reward


@pytest.mark.parametrize("end", ["kill -9 $$\n", "exit 137\n", "exit 0\n"])
def test_no_end_of_a_shell_looks_like_one_from_outside(namespace: Runtime, end: str) -> None:
    """Or an agent could have its failure played again."""
    with TerminalEnv(hello(), runtime=namespace, step_s=5.0) as env:
        env.reset()
        _, reward, terminated, _, info = env.step(end)
    assert (info["status"], terminated, reward) == ("failed", True, 0.0), info


@pytest.mark.whole
def test_a_judge_that_the_kernel_kills_is_no_verdict(namespace: Runtime, tmp_path: Path) -> None:
    """Its machine goes each time, so that there is none in the end; 0 would be a lie about honest work."""
    assert isinstance(namespace, Namespace)
    slow = Path(shutil.copytree(HELLO, tmp_path / "hello"))
    tests = slow / "tests/test_outputs.py"
    tests.write_text(
        "import time\n" + tests.read_text().replace("    assert", "    time.sleep(5)\n    assert")
    )
    stop, since = threading.Event(), dict[str, float]()

    def kill() -> None:
        while not stop.wait(0.05):
            for name, held in list(namespace._held.items()):
                if not name.startswith("judge-") or held._line is None or held._keeper is None:
                    continue
                if time.monotonic() - since.setdefault(name, time.monotonic()) > 3.0:
                    with suppress(ProcessLookupError):
                        os.kill(held._keeper.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    with TerminalEnv(find_task(slow), runtime=namespace, step_s=20.0) as env:
        env.reset()
        env.step(SOLVE)
        killer.start()
        try:
            _, reward, _, truncated, info = env.step("<submit>")
        finally:
            stop.set()
            killer.join()
    assert since
    assert (info["status"], truncated) == ("broken", True), info
    assert reward != reward


def test_a_program_that_reads_nothing_holds_nobody_up(namespace: Runtime) -> None:
    with TerminalEnv(hello(), runtime=namespace, step_s=2.0) as env:
        env.reset()
        seen, *_ = env.step("stty raw -echo; printf RE''ADY; sleep 1000\n")
        until = time.monotonic() + 60.0
        while "READY" not in seen["screen"] and time.monotonic() < until:
            seen, *_ = env.step(Action(wait_s=1.0))
        began = time.monotonic()
        seen, *_ = env.step("x" * 1_000_000)
        assert time.monotonic() - began < 120.0
        assert "stopped reading" in seen["complaint"]
        _, reward, terminated, _, info = env.step("<submit>")
    assert (reward, terminated, info["status"]) == (0.0, True, "failed")


# ── no room for what is temporary ───────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def make(size: str) -> Path:
        nonlocal mounted
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(argv, check=False, capture_output=True).returncode:
            pytest.skip("a small tmpfs needs root")
        mounted = True
        return folder

    yield make
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def rollout(root: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    (root / "manifest.jsonl").write_text(json.dumps({"path": str(HELLO)}) + "\n")
    argv = [Path(sys.executable).with_name("tgym"), "rollout", *words, "--runtime", "namespace"]
    return subprocess.run(
        list(map(str, argv)), env={**os.environ, **environment}, capture_output=True, text=True, timeout=240
    )


@pytest.mark.whole
def test_no_room_for_sandboxes_breaks_episodes_and_nothing_else(
    small_disk: Callable[[str], Path], tmp_path: Path, namespace: Runtime
) -> None:
    disk, run = small_disk("8k"), tmp_path / "run"
    words = [tmp_path / "manifest.jsonl", "--attempts", 2, "--out", run]
    ran = rollout(tmp_path, *words, TMPDIR=str(disk))
    assert ran.returncode == 3, ran.stderr
    assert "Traceback" not in ran.stderr
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
    if (run / "run.json").exists():
        words = ["--resume", run, "--retry-broken"]
    ran = rollout(tmp_path, *words, TMPDIR=str(disk))
    assert ran.returncode == 0, ran.stderr
    assert {row.status for row in Run(run).standing.values()} == {"passed"}


@pytest.mark.whole
def test_no_room_for_the_run_stops_it_and_it_goes_on_later(
    small_disk: Callable[[str], Path], tmp_path: Path, namespace: Runtime
) -> None:
    disk = small_disk("20k")
    ran = rollout(tmp_path, tmp_path / "manifest.jsonl", "--attempts", 12, "--out", disk / "run")
    assert ran.returncode == 3
    assert "Make room, then resume" in ran.stderr
    assert "Traceback" not in ran.stderr
    stored = len(Run(disk / "run"))
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
    ran = rollout(tmp_path, "--resume", disk / "run")
    assert ran.returncode == 0, ran.stderr
    run = Run(disk / "run")
    assert (len(run), len(run.rows)) == (12, 12)
    assert stored < 12


# ── clocks ──────────────────────────────────────────────────────────────────────────────────────

_JUMPING = """
import datetime, itertools, sys, time
real, steps = time.time, itertools.cycle([0.0, 3600.0, -3600.0, 86400.0 * 400])
time.time = lambda: real() + next(steps)
from terminal_gym.cli.app import main
main(sys.argv[1:])
"""


@pytest.mark.whole
def test_a_wall_clock_that_jumps_changes_no_limit(namespace: Runtime, tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"path": str(HELLO)}) + "\n")
    argv = [
        "rollout",
        tmp_path / "manifest.jsonl",
        "--attempts",
        "2",
        "--out",
        tmp_path / "run",
        "--runtime",
        "namespace",
    ]
    child = [sys.executable, "-c", _JUMPING, *map(str, argv)]
    ran = subprocess.run(child, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    for played in Run(tmp_path / "run"):
        assert played.outcome.status == "passed"
        assert all(0.0 <= seconds < 120.0 for seconds in played.seconds.values())


def test_an_owner_in_another_time_namespace_is_not_judged() -> None:
    """There every process began at another tick; ours must not look dead from there."""
    program = "import sys; from terminal_gym.sandbox.reaper import is_orphan; print(is_orphan(sys.argv[1]))"
    argv = [
        "unshare",
        "--time",
        "--boottime",
        "100000",
        "--fork",
        sys.executable,
        "-c",
        program,
        str(current_owner()),
    ]
    if os.geteuid():
        argv.insert(1, "--user")
    ran = subprocess.run(argv, capture_output=True, text=True)
    if ran.returncode:
        pytest.skip(f"no time namespaces here: {ran.stderr.strip()[-200:]}")
    assert ran.stdout.strip() == "False"
    assert not is_orphan(str(current_owner()))


# ── two engines ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.whole
def test_two_engines_side_by_side_touch_nothing_of_each_other(namespace: Runtime, tmp_path: Path) -> None:
    """Each start sweeps what dead owners left, while the other's sandboxes live."""
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            with closing(open_runtime("namespace")) as other:
                other.reap()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        played = play(namespace, tmp_path / "run", attempts=4)
    finally:
        stop.set()
        sweeper.join()
    assert played.statuses == {"passed": 4}, played.reasons()
