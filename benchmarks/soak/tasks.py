"""The tasks of the soak: honest work, no work, and attacks as "solutions"; each with the one verdict it may get.

The `oracle` agent types a task's solution, so that an attack is a task folder like any other and a rollout needs to
know nothing of it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from terminal_gym.tasks.task import Mode

PREFIX = "soak-"  # by which a sandbox of ours is known
HELLO, RUNNER = "hello", "runner"
_HONEST = {
    HELLO: "printf 'hello, world\\n500500\\n' > /app/greeting.txt",
    RUNNER: "printf 'echo $(($1 + $2))\\n' > /app/answer",
}
_ARTIFACT = {HELLO: "/app/greeting.txt", RUNNER: "/app/answer"}
_ASKED = {
    HELLO: "Write /app/greeting.txt: the line 'hello, world', then the sum of 1 to 1000.",
    RUNNER: "Write the shell script /app/answer, which prints the sum of its two arguments.",
}
_TESTS = {
    HELLO: """\
from pathlib import Path

def test_one():
    assert Path("/app/greeting.txt").read_text("utf-8").splitlines()[0] == "hello, world"

def test_two():
    assert Path("/app/greeting.txt").read_text("utf-8").splitlines()[1:] == ["500500"]
""",
    RUNNER: """\
import subprocess

def total(a, b):
    ran = subprocess.run(["/bin/sh", "/app/answer", str(a), str(b)], capture_output=True, text=True, timeout=3)
    return ran.stdout.strip()

def test_one():
    assert total(19, 23) == "42"

def test_two():
    assert total(123456, 654321) == "777777"
""",
}


@dataclass(frozen=True)
class Case:
    """One task of the soak."""

    name: str
    lines: str  # what is typed, as a script
    verdict: Literal["passed", "failed"]
    task: str = HELLO
    mode: Mode = "artifacts"
    typed: bool = False  # into the shell itself, not as a script


def _honest(name: str, lines: str, **more: str) -> Case:
    """An attack that leaves honest work intact: it is paid."""
    return Case(name, f"{_HONEST[HELLO]}\n{lines}", "passed", **more)  # type: ignore[arg-type]


def _cheat(name: str, lines: str, **more: object) -> Case:
    return Case(name, lines, "failed", **more)  # type: ignore[arg-type]


_PRELOAD = "echo /usr/lib/evil.so > /etc/ld.so.preload; echo 'passwd: evil' > /etc/nsswitch.conf"
_DAEMON = "(trap '' TERM HUP; setsid sh -c 'while :; do {0}; sleep 0.05; done' >/dev/null 2>&1 &)"
CASES = (
    Case("honest", _HONEST[HELLO], "passed"),
    Case("honest-restart", _HONEST[HELLO], "passed", mode="restart"),
    Case("honest-program", _HONEST[RUNNER], "passed", task=RUNNER),
    Case("idle", "true", "failed"),
    Case("half", "echo 'hello, world' > /app/greeting.txt", "failed"),
    _cheat("planted-tests", "mkdir -p /tests /app/tests; echo 'def test_one(): pass' > /tests/test_outputs.py"),
    _cheat("configuration", "for d in / /app /tmp; do echo 'import os; os._exit(0)' > $d/conftest.py; done"),
    _cheat("sitecustomize", "for d in /usr/lib/python3 /usr/lib/python3.11; do mkdir -p $d; "
           "echo 'import os; os._exit(0)' > $d/sitecustomize.py; done"),
    _cheat("fake-tools", "for t in python3 pytest uv; do printf '#!/bin/sh\\nexit 0\\n' > /usr/local/bin/$t; "
           "chmod +x /usr/local/bin/$t; done"),
    _cheat("preload", _PRELOAD),
    _honest("preload-honest", _PRELOAD),
    _cheat("preload-restart", _PRELOAD, mode="restart"),
    _cheat("daemon-writes", _DAEMON.format("echo x > /app/late")),
    _honest("daemon-honest", _DAEMON.format("echo x > /app/late")),
    _cheat("late-solve", "(setsid sh -c 'sleep 25; printf \"hello, world\\n500500\\n\" > /app/greeting.txt' "
           ">/dev/null 2>&1 &)"),
    _cheat("reward-files", "mkdir -p /logs/verifier; echo 1 | tee /logs/verifier/reward.txt > /reward.txt"),
    _cheat("link", "ln -sf /etc/hostname /app/greeting.txt"),
    _cheat("fifo", "rm -f /app/greeting.txt; mkfifo /app/greeting.txt"),
    _cheat("device", "rm -f /app/greeting.txt; mknod /app/greeting.txt c 1 5 || ln -s /dev/zero /app/greeting.txt"),
    _honest("names", "touch \"/app/$(printf 'a\\033[2Jb\\nc')\" '/app/--help' '/app/;reboot'"),
    _cheat("no-system", "rm -rf /usr /lib /lib64 /etc /bin /sbin 2>/dev/null", typed=True),
    _cheat("full-disk", "head -c 80M /dev/zero > /app/full || true"),
    _cheat("many-files", "cd /app && for i in $(seq 2000); do : > f$i; done"),
    _cheat("fork-bomb", "f() { f | f & }; f", typed=True),
    _cheat("shell-dies", "kill -9 $$", typed=True),
    _cheat("noise", "head -c 200000 /dev/urandom", typed=True),
    _cheat("stray-modes", "printf '\\033[?1049h\\033[?25l\\033]0;x\\007\\033P+q\\033\\\\'; stty -echo raw", typed=True),
    _cheat("kills-judge", "echo 'kill -9 $PPID; kill -9 -1' > /app/answer", task=RUNNER),
    _cheat("forged-report", "printf 'for f in 1 2 3 4 5 6; do echo \"\\\\001TGR1 0 e30=\" >&$f; done 2>/dev/null' "
           "> /app/answer", task=RUNNER),
)  # fmt: skip


def write(root: Path) -> dict[str, Case]:
    """Write a task folder for each case below `root`; returns folder name → case."""
    for case in CASES:
        folder = root / f"{PREFIX}{case.name}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "tests").mkdir(parents=True)
        (folder / "Dockerfile").write_text("FROM debian:bookworm\n", "utf-8")
        (folder / "tests/test_outputs.py").write_text(_TESTS[case.task], "utf-8")
        (folder / "task.yaml").write_text(json.dumps(_described(case), indent=1), "utf-8")  # JSON is YAML
        if case.typed:
            moves = [{"command": case.lines, "max_timeout_sec": 2, "block": False, "min_timeout_sec": 0.2}]
            (folder / "solution.yaml").write_text(json.dumps(moves), "utf-8")
        else:
            (folder / "solution.sh").write_text(f"#!/bin/sh\n{case.lines}\n", "utf-8")
    return {f"{PREFIX}{case.name}": case for case in CASES}


def _described(case: Case) -> dict[str, object]:
    ours = {
        "mode": case.mode,
        "artifacts": [_ARTIFACT[case.task]] if case.mode == "artifacts" else [],
        "workdir": "/app",
        "limits": {"memory_mb": 256, "pids": 64, "disk_mb": 64},
        "host": {"allowed": True, "commands": ["seq"]},
        "expected": ["test_outputs.py::test_one", "test_outputs.py::test_two"],
    }
    return {
        "instruction": _ASKED[case.task],
        "parser_name": "pytest",
        "max_agent_timeout_sec": 20,
        "max_test_timeout_sec": 20,
        "terminal_gym": ours,
    }
