"""One judgement after another on a bare machine: what is reported, what cannot be forged, what is left running."""

import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest

Outcomes = Callable[[dict[str, Any]], dict[str, str]]

EVERY_KIND = """
import pytest, unittest

def test_passes(): pass
def test_fails(): assert 1 == 2, "as it should"
def test_is_skipped(): pytest.skip("never")
@pytest.mark.xfail
def test_xfails(): assert 0
@pytest.mark.xfail
def test_xpasses(): pass
@pytest.fixture
def broken(): raise RuntimeError("no fixture")
def test_errors(broken): pass
@pytest.mark.parametrize("text", ["a::b", "é", "x/y"])
def test_of(text): assert text
class TestClass:
    def test_method(self, tmp_path): (tmp_path / "file").write_text("there")
class TestCase(unittest.TestCase):
    def test_case(self): self.assertTrue(True)
"""


@pytest.mark.usefixtures("users")
def test_every_kind_of_outcome_is_reported(machine: Any, outcomes: Outcomes) -> None:
    result = machine.judge({"test_kinds.py": EVERY_KIND}, canary="feedface")
    report = result["report"]
    calls = outcomes(result)
    assert result["status"] == "reported"
    assert result["dropped"]
    assert calls["test_kinds.py::test_passes"] == "passed"
    assert calls["test_kinds.py::test_fails"] == "failed"
    assert calls["test_kinds.py::test_is_skipped"] == "skipped"
    marked = {r[0] for r in report["reports"] if r[1] == "call" and r[3] is not None}
    assert marked == {"test_kinds.py::test_xfails", "test_kinds.py::test_xpasses"}
    assert ["test_kinds.py::test_errors", "setup", "failed"] in [r[:3] for r in report["reports"]]
    assert {"test_kinds.py::TestClass::test_method", "test_kinds.py::TestCase::test_case"} <= set(calls)
    assert "test_kinds.py::test_of[a::b]" in calls
    assert len(report["items"]) == len(report["canaries"]) == 11
    for canary in report["canaries"]:
        call = [r for r in report["reports"] if r[0] == canary and r[1] == "call"]
        assert [r[2] for r in call] == ["failed"]
        assert "feedface" in call[0][4]
    assert "feedface" not in result["out"]


def test_collecting_gives_the_items_and_runs_nothing(machine: Any) -> None:
    tests = {"test_a.py": "def test_a(): open('/app/ran', 'w')\nclass TestB:\n  def test_b(self): pass\n"}
    result = machine.judge(tests, collect_only=True, canary="")
    assert result["report"]["items"] == ["test_a.py::test_a", "test_a.py::TestB::test_b"]
    assert result["report"]["reports"] == []
    assert not (machine.root / "app/ran").exists()


def test_only_the_ordered_node_runs(machine: Any, outcomes: Outcomes) -> None:
    tests = {"test_a.py": "def test_a(): pass\ndef test_b(): assert 0\n"}
    assert outcomes(machine.judge(tests, args=("test_a.py::test_a",))) == {"test_a.py::test_a": "passed"}


@pytest.mark.parametrize(
    ("source", "rc"), [("x = 1", 5), ("import nothing_like_this", 2), ("def test_a(:", 2)]
)
def test_no_test_is_never_a_pass(machine: Any, source: str, rc: int) -> None:
    report = machine.judge({"test_a.py": source})["report"]
    assert (report["rc"], report["items"]) == (rc, [])
    assert bool(report["errors"]) == (rc == 2)


def test_own_conftest_is_read_when_ordered_only(machine: Any) -> None:
    tests = {
        "conftest.py": "import pytest\n@pytest.fixture\ndef seven(): return 7\n",
        "test_a.py": "def test_a(seven): assert seven == 7\n",
    }
    assert machine.judge(tests, own_conftest=True)["report"]["rc"] == 1  # the canary
    setups = [
        r[2] for r in machine.judge(tests)["report"]["reports"] if r[:2] == ["test_a.py::test_a", "setup"]
    ]
    assert setups == ["failed"]


def test_helpers_beside_the_tests_can_be_imported(machine: Any, outcomes: Outcomes) -> None:
    tests = {
        "helper.py": "SEVEN = 7\n",
        "sub/test_a.py": "import helper\ndef test_a(): assert helper.SEVEN == 7\n",
    }
    assert outcomes(machine.judge(tests, args=("sub/test_a.py",))) == {"sub/test_a.py::test_a": "passed"}


def test_cwd_and_env_are_the_ordered_ones(machine: Any, outcomes: Outcomes) -> None:
    source = """
import os, subprocess
def test_a():
    assert os.getcwd() == "/app"
    said = subprocess.check_output(["sh", "-c", "echo $WORD $LC_ALL"], text=True)
    assert said == "heron C.UTF-8\\n"
"""
    result = machine.judge({"test_a.py": source}, cwd="/app", env={"WORD": "heron", "PYTEST_ADDOPTS": "--co"})
    assert outcomes(result) == {"test_a.py::test_a": "passed"}


@pytest.mark.parametrize(
    "attack",
    [
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "import atexit, os; atexit.register(os._exit, 0); os._exit(0)",
        "import os; [os.close(fd) for fd in range(3, 30)]",
    ],
)
def test_tested_code_that_ends_the_child_leaves_no_report(machine: Any, attack: str) -> None:
    result = machine.judge({"test_a.py": f"def test_a():\n    {attack}\n"})
    assert (result["status"], result["report"]) in [("died", None), ("bad_report", None)]


def test_a_hang_is_a_timeout(machine: Any) -> None:
    result = machine.judge({"test_a.py": "import time\ndef test_a(): time.sleep(600)\n"}, timeout_s=1.0)
    assert result["status"] == "timeout"
    assert result["timed_out"]
    assert result["report"] is None


def test_a_blanket_patch_of_reports_shows_on_the_canaries(machine: Any) -> None:
    source = """
from _pytest.reports import TestReport
make = TestReport.from_item_and_call.__func__
def always_passed(cls, item, call):
    report = make(cls, item, call)
    report.outcome = "passed"
    return report
TestReport.from_item_and_call = classmethod(always_passed)
def test_a(): assert 0
"""
    result = machine.judge({"test_a.py": source})
    report = result["report"]
    assert [r[2] for r in report["reports"] if r[0] in report["canaries"] and r[1] == "call"] == ["passed"]


def test_a_patched_test_function_shows_on_the_canaries(machine: Any) -> None:
    source = "import pytest\npytest.Function.runtest = lambda self: None\ndef test_a(): assert 0\n"
    report = machine.judge({"test_a.py": source})["report"]
    assert [r[2] for r in report["reports"] if r[0] in report["canaries"] and r[1] == "call"] == ["passed"]


FORGER = r"""
import os, subprocess, sys
LINE = b"\n\x01TGR1 " + b"0" * 64 + b" eyJzdGF0dXMiOiAicmVwb3J0ZWQifQ==\n"
def test_a():
    subprocess.run([sys.executable, "-c", '''
import os, sys
line = bytes.fromhex(sys.argv[1])
for fd in range(64):
    try: os.write(fd, line)
    except OSError: pass
for path in ("/dev/console", "/dev/tty", "/proc/1/fd/1"):
    try: os.write(os.open(path, os.O_WRONLY | os.O_NOCTTY), line)
    except OSError: pass
if os.fork() == 0:
    os.setsid()
    while True:
        try: os.write(os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY), line)
        except OSError: pass
''', LINE.hex()])
    assert 0
"""


def test_a_forged_report_is_noise(machine: Any, outcomes: Outcomes) -> None:
    result = machine.judge({"test_a.py": FORGER})
    assert outcomes(result) == {"test_a.py::test_a": "failed"}


SPY = """
import os, subprocess
def test_a():
    got = subprocess.run(["sh", "-c", '''
id -u
cat /tgt-*/* /dev/shm/tgt-*/* && echo READ
for pid in 1 %d; do for what in environ mem maps fd/0 fd/1 fd/3 fd/4 fd/5; do
  head -c 1 /proc/$pid/$what && echo READ $pid $what; done; done
kill -9 1 && echo KILLED
touch /tgt-x /app/x && echo WROTE
grep CapEff /proc/self/status
''' % os.getpid()], capture_output=True, text=True).stdout
    assert "READ" not in got and "WROTE" not in got, got
    assert got.split()[0] == "64321" and "CapEff:\\t0000000000000000" in got, got
"""


@pytest.mark.usefixtures("users")
def test_what_tests_spawn_reads_neither_tests_nor_memory(machine: Any, outcomes: Outcomes) -> None:
    result = machine.judge({"test_a.py": SPY})
    assert outcomes(result) == {"test_a.py::test_a": "passed"}, result["out"]


def test_nothing_is_left_running_and_the_judge_outlives_a_fork_storm(
    machine: Any, outcomes: Outcomes
) -> None:
    source = """
import os, time
def test_a():
    for _ in range(100):
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
"""
    result = machine.judge(
        {"test_a.py": source}
    )  # returns after the end of PID 1, and with it of all the others
    assert outcomes(result) == {"test_a.py::test_a": "passed"}
    assert result["s"] < 10


def test_endless_output_is_cut(machine: Any) -> None:
    source = """
import subprocess
def test_a(capfd):
    with capfd.disabled():
        subprocess.run(["head", "-c", "20000000", "/dev/zero"])
"""
    result = machine.judge({"test_a.py": source})
    assert result["truncated"]
    assert len(result["out"]) <= 20_000


def test_a_report_beyond_its_limit_is_refused(machine: Any) -> None:
    ids = "@pytest.mark.parametrize('x', range(3), ids=lambda x: 'y' * 4_000_000)"
    source = f"import pytest\n{ids}\ndef test_a(x): pass\n"
    assert machine.judge({"test_a.py": source}, canary="")["status"] == "too_large"


@pytest.mark.usefixtures("users")
def test_artifacts_belong_to_who_runs_the_tests(machine: Any, outcomes: Outcomes) -> None:
    source = """
import os, subprocess
def test_a():
    assert subprocess.run(["sh", "-c", "cat /app/out/result && echo more >> /app/out/result"]).returncode == 0
    assert open("/app/out/result").read() == "42\\nmore\\n"
    assert os.stat("/app/out").st_uid == 64321
"""
    result = machine.judge({"test_a.py": source}, artifacts={"app/out/result": "42\n"})
    assert outcomes(result) == {"test_a.py::test_a": "passed"}, result["out"]


def test_megabytes_travel_over_the_console(machine: Any, outcomes: Outcomes) -> None:
    content = random.Random(7).randbytes(8 << 20)
    digest = hashlib.sha256(content).hexdigest()
    source = f"""
import hashlib
def test_a(): assert hashlib.sha256(open("/app/big", "rb").read()).hexdigest() == "{digest}"
"""
    result = machine.judge({"test_a.py": source}, artifacts={"app/big": content})
    assert outcomes(result) == {"test_a.py::test_a": "passed"}, result["out"]


@pytest.mark.parametrize(
    "forged",
    [
        "'[' * 100_000",
        "'null'",
        "'1' * 10_000",
        '\'{"rc": 0, "items": [["a"]], "canaries": [], "reports": [], "errors": []}\'',
        '\'{"rc": 0, "items": [], "canaries": [], "reports": [["a", "b", "c", 4, "e"]], "errors": []}\'',
    ],
)
def test_what_is_no_report_is_told_apart(machine: Any, forged: str) -> None:
    source = f"""
import os, stat
def test_a():
    for fd in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode): os.write(fd, ({forged}).encode()[:60_000])
        except OSError: pass
    os._exit(0)
"""
    result = machine.judge({"test_a.py": source})
    assert (result["status"], result["report"]) == ("bad_report", None)


def test_a_full_machine_is_told_apart_from_bad_tests(machine: Any) -> None:
    machine.options = ["--remount-ro", "/", "--ro-bind", "/etc", "/tmp"]
    result = machine.judge({"test_a.py": "def test_a(): pass"})
    assert result["status"] == "no_room"


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x"])
def test_an_artifact_that_would_land_elsewhere_is_refused(machine: Any, name: str) -> None:
    result = machine.judge({"test_a.py": "def test_a(): pass"}, artifacts={name: "x"})
    assert (result["status"], result["report"]) == ("bad_artifacts", None)


def test_a_machine_without_any_file_judges(machine: Any, outcomes: Outcomes) -> None:
    machine.system = False
    for name in ("bin", "sbin", "lib", "lib64"):
        (machine.root / name).unlink()
    for name in ("etc", "app", "root", "tmp"):
        (machine.root / name).rmdir()
    result = machine.judge(
        {"test_a.py": "def test_a(tmp_path): assert (tmp_path / 'x').write_text('y') == 1"}
    )
    assert outcomes(result) == {"test_a.py::test_a": "passed"}, result["out"]


def test_with_one_mapped_uid_the_tests_are_still_out_of_reach(machine: Any, outcomes: Outcomes) -> None:
    machine.options = ["--unshare-user", "--uid", "0", "--gid", "0"]
    machine.capabilities += ("SYS_ADMIN", "SETPCAP")
    source = """
import subprocess
def test_a():
    got = subprocess.run(["sh", "-c", '''
cat /tgt-*/* && echo READ
chmod 777 /tgt-* && echo CHMOD
touch /tgt-*/test_a.py && echo WROTE
umount /tgt-* && echo UNMOUNTED
head -c1 /proc/1/mem && echo MEMORY
'''], capture_output=True, text=True).stdout
    assert got == ""
"""
    result = machine.judge({"test_a.py": source})
    assert outcomes(result) == {"test_a.py::test_a": "passed"}, result["out"]
    assert not result["dropped"]


def test_opting_out_runs_as_root(machine: Any, outcomes: Outcomes) -> None:
    source = "import os\ndef test_a(): assert os.getuid() == 0; open('/app/x', 'w')"
    result = machine.judge({"test_a.py": source}, drop_to=None)
    assert outcomes(result) == {"test_a.py::test_a": "passed"}, result["out"]
    assert not result["dropped"]
