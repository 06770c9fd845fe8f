"""What an agent, a model or a task wrote reaches the operator's terminal without a byte that acts on it."""

from __future__ import annotations

import ast
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from kit.trajectories import trajectory

from terminal_gym.trajectory.record import Check, Outcome
from terminal_gym.trajectory.store import RunWriter

CLI = Path(__file__).parents[2] / "terminal_gym" / "cli"
EVIL = "x\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\r\x08\u202egnp"
OURS = {"report.py", "play.py", "rollout.py"}  # the one door, the raw terminal, and a live table of numbers


def on_a_terminal(*argv: str) -> bytes:
    """Return what a command prints on a terminal without colours."""
    ours, theirs = pty.openpty()
    env = os.environ | {"TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-c", "from terminal_gym.cli import main; main()", *argv]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, close_fds=True):
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            said += piece
    os.close(ours)
    return said


def inert(said: bytes) -> bool:
    text = said.decode(errors="surrogateescape").replace("\r\n", "\n")
    return not [c for c in text if not (c.isprintable() or c == "\n")]


@pytest.mark.parametrize("file", sorted(CLI.glob("*.py")), ids=lambda path: path.name)
def test_there_is_one_door_to_the_terminal(file: Path) -> None:
    if file.name in OURS:
        return
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "typer.echo", "typer.secho", "click.echo"}, (
                f"{file.name}:{node.lineno}"
            )
            assert called not in ("sys.stdout.write", "sys.stderr.write"), f"{file.name}:{node.lineno}"
            assert not called.endswith("Console"), f"{file.name}:{node.lineno}"


def test_a_run_folder_full_of_escape_sequences_is_shown_inert(tmp_path: Path) -> None:
    plain = trajectory()
    outcome = Outcome("failed", 0.0, EVIL, (Check(EVIL, "failed", EVIL),), (EVIL,))
    with RunWriter(tmp_path / "run", {"tasks": [], "attempts": 1}) as writer:
        writer.append(
            replace(plain, task=f"evil/{EVIL}", agent=EVIL, instruction=EVIL, limit=EVIL, outcome=outcome)
        )
        writer.append(replace(plain, attempt=1, outcome=Outcome("broken", None, EVIL), failures=(EVIL,)))
    for words in (
        ["stats", "RUN"],
        ["replay", "RUN"],
        ["export", "RUN", "--out", str(tmp_path / EVIL[:1] / "o")],
    ):
        said = on_a_terminal(*[str(tmp_path / "run") if word == "RUN" else word for word in words])
        assert said
        assert inert(said), (words, said)


def test_a_task_with_hostile_text_is_shown_inert(tmp_path: Path) -> None:
    task = tmp_path / "task"
    (task / "tests").mkdir(parents=True)
    (task / "Dockerfile").write_text("FROM debian:bookworm\n")
    (task / "tests" / "test_outputs.py").write_text(f"def test_x():\n    assert 'https://{EVIL}.com'\n")
    escaped = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in EVIL)
    (task / "task.yaml").write_text(f'instruction: "{escaped}"\nauthor_name: "{escaped}"\n')
    for words in (["tasks", "show"], ["tasks", "lint"]):
        said = on_a_terminal(*words, str(task))
        assert said
        assert inert(said), (words, said)


def test_an_unknown_name_is_quoted_inert() -> None:
    for words in (["run", EVIL], ["tasks", "show", EVIL], ["run", "bird-census", "--agent", EVIL], [EVIL]):
        said = on_a_terminal(*words)
        assert said
        assert inert(said), (words, said)
