"""The command line: what each command prints, and what every ending exits with."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kit.folders import task_folder

from terminal_gym.cli import app as cli_app
from terminal_gym.cli import main, report
from terminal_gym.cli.doctor import examine
from terminal_gym.sandbox.base import RUNTIMES
from terminal_gym.trajectory.record import Check, Outcome, Trajectory

HELLO = Path(__file__).parents[1] / "kit/tasks/hello"


def tgym(*words: str | Path) -> int:
    """Run a command in this process; returns its exit code."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.mark.parametrize(
    "words",
    [
        ["tsks"],
        ["run"],
        ["run", "no-such-task"],
        ["run", "./nowhere"],
        ["run", str(HELLO), "--agent", "oracel"],
        ["run", str(HELLO), "--agent", "scripted"],
        ["run", str(HELLO), "--agent", "nop", "--script", "x"],
        ["run", str(HELLO), "--runtime", "dokcer"],
        ["run", str(HELLO), "--cast", "/no/such/folder/x.cast"],
        ["run", str(HELLO), "--seed", "one"],
        ["play", str(HELLO)],
        ["tasks", "show", "no-such-task"],
        ["tasks", "list", "--catalogue", "/no/such/folder"],
        ["reap", "--runtime", "dokcer"],
        ["view", "./nowhere", "--no-open"],
        ["view", str(HELLO), "--no-open"],
        ["view", "--port", "70000"],
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tgym(*words) == report.USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.strip()


def test_a_broken_task_is_broken_and_still_one_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = task_folder(tmp_path, yaml="instruction: [\n")
    assert tgym("run", folder, "--json") == report.BROKEN
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["status"], found["reward"], found["checks"]) == ("broken", None, [])
    assert "task.yaml:2" in found["reason"]
    assert "task.yaml:2" in printed.err


def test_an_uncaught_exception_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli_app.CHECKOUT, "boom", "json:loads")  # called with a list, it raises TypeError
    assert tgym("boom") == report.BROKEN
    assert "This is a bug" in capsys.readouterr().err


def test_a_package_that_is_not_here_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli_app.CHECKOUT, "train", "no_such_package.cli:app")
    assert tgym("train", "sft") == report.USAGE
    assert "editable checkout" in capsys.readouterr().err


def test_the_list_names_every_installed_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert tgym("tasks", "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["tasks"]
    assert rows
    assert tgym("tasks", "list") == 0
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


def test_a_given_catalogue_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.jsonl").write_text(
        '{"id": "a", "path": "a", "domain": "x"}\n{"id": "b", "path": "b"}\n'
    )
    assert tgym("tasks", "list", "--catalogue", tmp_path, "--domain", "x", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"tasks": [{"task": "TerminalTraj/a", "domain": "x"}]}


def test_show_tells_the_task_but_not_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert tgym("tasks", "show", HELLO, "--json") == 0
    text = capsys.readouterr().out
    assert json.loads(text)["limits"]["memory_mb"] == 512
    assert "500500" not in text
    assert "printf" not in text
    assert tgym("tasks", "show", HELLO) == 0
    assert "Write the file /app/greeting.txt" in capsys.readouterr().out


def test_lint_exits_1_on_an_error_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tgym("tasks", "lint", HELLO) == 0
    assert tgym("tasks", "lint", task_folder(tmp_path / "a")) == 0  # no solution: a warning
    bad = task_folder(tmp_path / "b", tests__test_outputs_dot_py="def test_a(): print(1)\n")
    assert tgym("tasks", "lint", bad) == 1
    assert "test_outputs.py:1: test_a asserts nothing" in capsys.readouterr().out
    assert tgym("tasks", "lint", bad, task_folder(tmp_path / "c", yaml="- a\n"), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["folders"], found["errors"]) == (2, 2)


def test_doctor_looks_at_every_runtime(capsys: pytest.CaptureFixture[str]) -> None:
    code = tgym("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    assert [f["subject"] for f in found["findings"]][:3] == list(RUNTIMES)
    assert code == (0 if found["runtime"] else report.BROKEN)
    assert all(f.works == "yes" or f.detail for f in examine())


def test_nothing_raw_reaches_the_operator(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]52;c;ZXZpbA==\x07\u202ea[red]b\x9b2J\r"
    checks = (Check(f"test_x.py::{evil}", "failed", f"detail {evil}"),)
    outcome = Outcome("failed", 0.0, f"why {evil}", checks, (evil,))
    played = Trajectory("T/x", "0", "nop", "docker", "sha256:0", 0, None, (), outcome)
    report.show_episode(played)
    report.complain(evil)
    report.show_table("", ["a"], [[evil]])
    report.show_json(report.as_object(played, None))
    printed = capsys.readouterr()
    assert all(c == "\n" or c.isprintable() or c == "\t" for c in printed.out + printed.err)
    assert "[red]" in printed.out


def test_help_needs_nothing_heavy() -> None:
    code = "import sys, terminal_gym.cli; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"torch", "docker", "pydantic"} & set(ran.stdout.split())


def test_the_installed_command_is_this_one() -> None:
    command = shutil.which("tgym", path=str(Path(sys.executable).parent))
    assert command is not None
    ran = subprocess.run([command, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "Exit codes" in ran.stdout
