"""Row J1: a rollout is killed at every boundary between two phases, and gone on with.

The child watches its own calls with a profile function, which changes nothing of what runs, and kills itself at the one
that is asked for: `<qualified name> <call or return> <n-th time>`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from terminal_gym.sandbox.base import open_runtime
from terminal_gym.trajectory.store import Run

HELLO = Path(__file__).parents[1] / "kit/tasks/hello"
ATTEMPTS = 3
_CHILD = """
import os, signal, sys, threading
name, event, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
def watch(frame, what, arg):
    global left
    if what == event and frame.f_code.co_qualname == name:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
from terminal_gym.cli.app import main
threading.setprofile(watch)
sys.setprofile(watch)
main(sys.argv[4:])
"""
SHARED = [
    ("start_machine", "call"), ("Session.open", "call"), ("Session.open", "return"), ("TerminalEnv.step", "call"),
    ("TerminalEnv.step", "return"), ("PytestValidator.judge", "call"), ("PytestValidator.judge", "return"),
    ("RunWriter.append", "call"), ("Appender.append", "call"), ("Appender.append", "return"),
    ("RunWriter.append", "return"), ("ImageShelf.lend", "call"), ("RunWriter._open", "return"), ("filtered", "call"),
]  # fmt: skip
BOUNDARIES = {
    "namespace": [
        *SHARED, ("Namespace.start", "call"), ("Namespace._new_folder", "call"), ("mkdtemp", "return"),
        ("Cgroup.__init__", "return"), ("Keeper.__init__", "return"), ("Namespace.start", "return"),
        ("Machine.boot", "call"), ("Machine.boot", "return"), ("Machine.stop", "return"),
        ("Machine.read_archive", "return"), ("Keeper.close", "return"),
        ("Cgroup.close", "return"), ("Machine.close", "call"), ("Machine.close", "return"),
    ],
    "docker": [
        *SHARED, ("Docker.start", "call"), ("Docker._create", "return"), ("Container.boot", "call"),
        ("Container._start", "return"), ("Container.boot", "return"), ("Container.stop", "return"),
        ("Container.read_archive", "return"), ("remove", "call"), ("remove", "return"),
    ],
}  # fmt: skip
SAMPLE = {("namespace", "mkdtemp", "return"), ("docker", "Docker._create", "return")}  # fmt: skip


def cases() -> list[object]:
    return [
        pytest.param(
            runtime,
            name,
            event,
            id=f"{runtime}-{name}-{event}",
            marks=[
                *((pytest.mark.docker,) if runtime == "docker" else ()),
                *(() if (runtime, name, event) in SAMPLE else (pytest.mark.whole,)),
            ],
        )
        for runtime, boundaries in BOUNDARIES.items()
        for name, event in boundaries
    ]


@pytest.fixture
def rollout(tmp_path: Path) -> Path:
    """A manifest, and a folder for what is temporary."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"path": str(HELLO)}) + "\n")
    return tmp_path


def tgym(
    root: Path, *words: object, doom: tuple[str, str, int] | None = None
) -> subprocess.CompletedProcess[str]:
    child = (
        [sys.executable, "-c", _CHILD, *map(str, doom)] if doom else [Path(sys.executable).with_name("tgym")]
    )
    environment = {**os.environ, "TMPDIR": str(root / "tmp")}
    argv = [*map(str, child), *map(str, words)]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize(("name", "boundary", "event"), cases())
def test_killed_at_a_boundary_and_gone_on_with(rollout: Path, name: str, boundary: str, event: str) -> None:
    folder = rollout / "run"
    words = ["--runtime", name, "--concurrency", 2, "--json"]
    begin = ["rollout", rollout / "manifest.jsonl", "--attempts", ATTEMPTS, "--out", folder, *words]
    ran = tgym(rollout, *begin, doom=(boundary, event, 2 if "append" in boundary else 1))
    assert ran.returncode == -signal.SIGKILL, f"{boundary} was never reached: {ran.stderr[-2000:]}"
    kept = set(Run(folder).standing) if (folder / "run.json").exists() else set()
    again = ["rollout", "--resume", folder, *words] if (folder / "run.json").exists() else begin
    ran = tgym(rollout, *again)
    assert ran.returncode == 0, ran.stderr[-2000:]
    run = Run(folder)
    assert kept <= set(run.standing), "a finished attempt was lost"
    assert [row.status for row in run.rows] == ["passed"] * ATTEMPTS, (
        "an attempt is missing, doubled or misjudged"
    )
    assert not list((rollout / "tmp").glob("tgym-*/*")), "a sandbox's folder was left"
    with closing(open_runtime(name)) as runtime:
        assert not runtime.reap(), "the next start left something to the one after it"
