"""The guard, run by this machine's Python on real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from terminal_gym.sandbox.guard import TIMED_OUT, guarded
from terminal_gym.trusted_runtime.tree import INIT_ARGV

ENV = {"PATH": "/usr/bin:/bin"}
# A child that leaves its session and loses its parent, then tells its pid.
DAEMON = "(setsid sh -c 'echo $$ > {0}.part; mv {0}.part {0}; exec sleep 1000' &) ; while ! test -e {0}; do :; done"


def run(*argv: str, timeout_s: float = 20.0, env: dict[str, str] = ENV) -> subprocess.CompletedProcess[bytes]:
    command = guarded(argv, timeout_s=timeout_s, env=env)
    here = [sys.executable, *command[len(INIT_ARGV) - 1 :]]
    return subprocess.run(here, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_the_helpers_end_is_its_own(script: str, code: int) -> None:
    assert run("sh", "-c", script).returncode == code


def test_the_environment_is_exactly_what_is_given() -> None:
    ran = run("env", env=ENV | {"A": "b=c", "EMPTY": ""})
    assert sorted(ran.stdout.decode().splitlines()) == ["A=b=c", "EMPTY=", "PATH=/usr/bin:/bin"]


def test_a_missing_program_is_127() -> None:
    ran = run("no-such-program")
    assert ran.returncode == 127
    assert b"no-such-program" in ran.stderr


@pytest.mark.parametrize(("rest", "timeout_s", "code"), [("exit 5", 20.0, 5), ("sleep 1000", 0.7, TIMED_OUT)])
def test_nothing_outlives_the_guard(tmp_path: Path, rest: str, timeout_s: float, code: int) -> None:
    told = tmp_path / "pid"
    began = time.monotonic()
    ran = run("sh", "-c", f"{DAEMON.format(told)}; {rest}", timeout_s=timeout_s)
    assert ran.returncode == code
    assert time.monotonic() - began < 10
    assert not Path(f"/proc/{told.read_text().strip()}").exists()
