"""The oracle: what it types arrives byte for byte, on every shell, and it waits for its own commands."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.local_wire import LocalWire

from terminal_gym.agents import oracle
from terminal_gym.agents.oracle import Oracle, moves, script_lines
from terminal_gym.errors import BadSetting
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.solution import Keystrokes, Solution
from terminal_gym.tasks.task import Task
from terminal_gym.terminal.session import Session
from terminal_gym.trajectory.record import Action, Observation

HELLO = read_folder(Path(__file__).parents[2] / "kit/tasks/hello")
NONCE = "0aac1e000aac1e00"
ODD = "".join(map(chr, range(1, 128))) + "ünï€ '\"\\%s %% $HOME `id` !! \t\t\n"


@pytest.fixture
def script_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "script"
    monkeypatch.setattr(oracle, "SCRIPT", str(path))
    return path


def seen(fact: str = "prompt") -> Observation:
    return Observation("", "", (0, 0), settled_by=fact)


def with_solution(solution: Solution) -> Task:
    return replace(HELLO, solution=solution)


class Hours:
    """A clock that only its own `sleep` moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(script=st.binary(min_size=1, max_size=6000).filter(lambda b: b"\0" not in b))
def test_any_script_becomes_short_plain_lines(script: bytes) -> None:
    lines = script_lines(script)
    assert all(len(line) <= oracle.LINE_BYTES and line.isascii() and line.isprintable() for line in lines)
    assert len(lines) <= 2 + 4 * len(script) // (oracle.LINE_BYTES - 110)


@pytest.mark.parametrize("shell", ["bash", "dash", "busybox", "zsh"])
def test_every_shell_writes_the_same_bytes(shell: str, script_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    script = (ODD * 30).encode()
    for line in script_lines(script):
        subprocess.run([shell, *(["sh"] if shell == "busybox" else []), "-c", line], check=True, timeout=30)
    assert script_path.read_bytes() == script


@pytest.mark.parametrize("shell", ["bash", "dash", "ash"])
def test_a_typed_script_runs_and_is_removed(shell: str, tmp_path: Path, script_path: Path) -> None:
    body = "#!/bin/bash\nsleep 0.2\ncat > odd.txt <<'END'\n" + ODD.replace("\r", "") * 20 + "END\nexit 7\n"
    wire = LocalWire(shell, tmp_path, nonce=NONCE)
    session = Session(wire, nonce=NONCE)
    try:
        session.open(10.0)
        for move in moves(Solution(script=body), limit_s=30.0):
            session.send(move.keys)
            settled = session.settle(deadline_s=30.0)
            assert settled.fact == "prompt", session.screen().text()
        assert settled.exit_code == 7
    finally:
        session.close()
        wire.close()
    assert (tmp_path / "odd.txt").read_bytes() == (ODD.replace("\r", "") * 20).encode()
    assert not script_path.exists()


def test_it_looks_again_while_its_command_runs_and_pauses_longer_each_time() -> None:
    hours = Hours()
    player = Oracle("solution", clock=hours, sleep=hours.sleep)
    player.begin(with_solution(Solution(keystrokes=(Keystrokes("make", block=True, max_timeout_s=60.0),))))
    assert player.act(seen()) == Action(keys=(b"make\r",), wait_s=60.0)
    looks = [player.act(seen("reader")) for _ in range(9)]
    assert all(not look.keys and not look.submit for look in looks)
    assert hours.now == pytest.approx(0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 5.0 * 3)
    assert player.act(seen("prompt")).submit


def test_it_gives_up_waiting_when_the_time_of_the_entry_is_over() -> None:
    hours = Hours()
    player = Oracle("solution", clock=hours, sleep=hours.sleep)
    player.begin(with_solution(Solution(keystrokes=(Keystrokes("cat", block=True, max_timeout_s=3.0),))))
    player.act(seen())
    actions = [player.act(seen("reader")) for _ in range(12)]
    assert any(action.submit for action in actions)
    assert hours.now <= 3.001


def test_keys_without_block_go_on_at_once_but_not_before_their_minimum() -> None:
    hours = Hours()
    player = Oracle("solution", clock=hours, sleep=hours.sleep)
    keys = (Keystrokes("vim x", min_timeout_s=2.0), Keystrokes("C-c", append_enter=False), Keystrokes(":q"))
    player.begin(with_solution(Solution(keystrokes=keys)))
    assert player.act(seen()).keys == (b"vim x\r",)
    assert player.act(seen("reader")).keys == (b"\x03",)
    assert hours.now == 2.0
    assert player.act(seen("reader")).keys == (b":q\r",)
    assert player.act(seen("reader")).submit


def test_a_second_episode_starts_from_the_first_move() -> None:
    player = oracle.oracle()
    for _ in range(2):
        player.begin(HELLO)
        assert b"mkdir -p /tmp" in player.act(seen()).keys[0]


def test_a_task_without_that_solution_is_refused() -> None:
    bare = replace(HELLO, solution=None, partial=None)
    for player in (oracle.oracle(), oracle.partial()):
        with pytest.raises(BadSetting, match="has no"):
            player.begin(bare)
