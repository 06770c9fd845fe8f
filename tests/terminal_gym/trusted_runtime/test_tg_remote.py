"""Agent code behind the proxy: values come back, cheats do not; inside a real judgement and beside it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from terminal_gym.trusted_runtime.guest.site.tg_remote import Remote, RemoteError

AGENT = """
import os, subprocess, sys, time
LIMIT = 7
def add(a, b=1): return a + b
def echo(value): return value
def shout(): print("noise"); os.write(1, b"more noise"); return "result"
def equal(): return type("E", (), {"__eq__": lambda *_: True})()
def boom(): raise ValueError("as told")
def leave(): os._exit(0)
def forever(): time.sleep(600)
def flood(): return "x" * 3_000_000
def linger(): subprocess.Popen(["sleep", "600"]); return os.getpgid(0)
def listen(): return sys.stdin.read()
class Deep:
    @staticmethod
    def add(a, b): return a + b
"""


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    (tmp_path / "mod.py").write_text(AGENT)
    return Remote(str(tmp_path / "mod.py"), timeout_s=10.0)


def test_values_come_back_as_plain_types(remote: Remote) -> None:
    value = {"a": [1, 2.5, None, True, "é😀"], "b": {"c": "d" * 200_000}}
    assert remote.add(2, b=3) == 5
    assert remote.echo(value) == value
    assert remote.value("LIMIT") == 7
    assert getattr(remote, "Deep.add")(2, 3) == 5


def test_what_is_printed_is_not_the_result(remote: Remote) -> None:
    assert (remote.shout(), remote.listen()) == ("result", "")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("equal", "not JSON serializable"),
        ("boom", "as told"),
        ("leave", "no JSON"),
        ("flood", "more than"),
        ("nothing_like_it", "has no attribute"),
    ],
)
def test_a_call_without_a_value_is_an_error(remote: Remote, name: str, found: str) -> None:
    with pytest.raises(RemoteError, match=found):
        getattr(remote, name)()


def test_a_call_ends_at_its_limit(remote: Remote) -> None:
    remote._timeout_s = 0.5
    started = time.monotonic()
    with pytest.raises(RemoteError, match="time limit"):
        remote.forever()
    assert time.monotonic() - started < 5


def test_children_do_not_outlive_the_call(remote: Remote) -> None:
    group = remote.linger()
    alive = [p for p in Path("/proc").glob("[0-9]*/stat") if _group_and_state(p) == (str(group), "S")]
    assert alive == []


def _group_and_state(path: Path) -> tuple[str, str]:
    try:
        state, _, group = path.read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return "", ""
    return group, state


def test_another_interpreter_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_text("import pexpect\ndef version(): return pexpect.__version__\n")
    assert Remote(str(tmp_path / "mod.py"), python=[sys.executable, "-B"]).version()


@pytest.mark.usefixtures("users")
def test_in_a_judgement_the_code_runs_as_nobody(
    machine: Any, outcomes: Callable[[dict[str, Any]], dict[str, str]]
) -> None:
    (machine.root / "app/mod.py").write_text(
        "import os\ndef who(): return [os.getuid(), os.listdir('/app')]\n"
    )
    tests = {
        "test_a.py": "from tg_remote import Remote\n"
        "def test_a(): assert Remote('/app/mod.py').who() == [64321, ['mod.py']]\n"
    }
    result = machine.judge(tests)
    assert outcomes(result) == {"test_a.py::test_a": "passed"}, result["out"]
