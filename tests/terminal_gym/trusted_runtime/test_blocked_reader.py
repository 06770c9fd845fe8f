"""Real programs on a real terminal, asleep in every way there is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from kit.local_wire import LocalWire

from terminal_gym.trusted_runtime.guest import blocked_reader

WAITING = {
    "read": "os.read(0, 1)",
    "readv": "os.readv(0, [bytearray(1)])",
    "select": "select.select([0], [], [])",
    "select-with-timeout": "select.select([5, 0], [], [], 60)",
    "poll": "p = select.poll(); p.register(0, select.POLLIN); p.poll()",
    "epoll": "e = select.epoll(); e.register(0, select.EPOLLIN); e.poll()",
    "dev-tty": "os.read(os.open('/dev/tty', os.O_RDWR), 1)",
    "thread": "threading.Thread(target=lambda: os.read(0, 1)).start(); time.sleep(60)",
    "child": "os.fork() and os.wait(); os.read(0, 1)",
    "raw-mode": "tty.setraw(0); os.read(0, 1)",
}
NOT_WAITING = {
    "sleep": "time.sleep(60)",
    "busy": "while True: pass",
    "pipe": "os.read(os.pipe()[0], 1)",
    "select-elsewhere": "select.select([os.pipe()[0]], [], [])",
    "poll-for-room": "p = select.poll(); p.register(5, select.POLLIN); p.register(0, 0); p.poll()",
    "background": "signal.signal(21, signal.SIG_IGN); os.fork() or (os.setpgid(0, 0), os.read(0, 1)); time.sleep(60)",
    "other-terminal": "m, s = pty.openpty(); os.read(s, 1)",
}
BEGIN = (
    "import os, pty, select, signal, sys, threading, time, tty\n"
    "os.dup2(os.pipe()[0], 5); print('ready', flush=True); "
)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], LocalWire]]:
    wires: list[LocalWire] = []

    def start(program: str) -> LocalWire:
        (tmp_path / "program.py").write_text("\n".join((BEGIN, program)))
        wire = LocalWire("dash", tmp_path, nonce="0" * 16, argv=[sys.executable, "-S", "program.py"])
        wires.append(wire)
        wire.stream.expect_exact(b"ready")
        return wire

    yield start
    for wire in wires:
        wire.close()


def found(wire: LocalWire, *, within_s: float = 5.0) -> tuple[int, int] | None:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        seen = blocked_reader.find(wire.init_pid() or 0)
        if seen is not None and seen == blocked_reader.find(wire.init_pid() or 0):
            return seen
    return None


@pytest.mark.parametrize("way", WAITING)
def test_a_waiting_program_is_found(way: str, run: Callable[[str], LocalWire]) -> None:
    wire = run(WAITING[way])
    seen = found(wire)
    assert seen is not None
    assert (seen[0] == wire.init_pid()) == (way != "child")


@pytest.mark.parametrize("way", NOT_WAITING)
def test_any_other_is_not(way: str, run: Callable[[str], LocalWire]) -> None:
    assert found(run(NOT_WAITING[way]), within_s=0.3) is None


def test_unread_input_is_not_waiting(run: Callable[[str], LocalWire]) -> None:
    # Asleep with a key before it: a poll for nothing but room to write.
    wire = run(
        "tty.setraw(0); print('raw', flush=True); p = select.poll(); p.register(5, 1); p.register(0, 0); p.poll()"
    )
    wire.stream.expect_exact(b"raw")
    assert found(wire, within_s=0.1) is None


def test_the_same_sleep_is_told_from_the_next(run: Callable[[str], LocalWire]) -> None:
    wire = run("while True: sys.stdout.write(os.read(0, 100).decode().upper()); sys.stdout.flush()")
    first = found(wire)
    assert first is not None
    assert found(wire) == first
    wire.stream.send(b"key\n")
    wire.stream.expect_exact(b"KEY")
    second = found(wire)
    assert second is not None
    assert second[0] == first[0]
    assert second[1] > first[1]


def test_right_after_writing_nobody_waits(run: Callable[[str], LocalWire]) -> None:
    wire = run("while os.read(0, 100) != b'end\\n': time.sleep(0.05); print('woke', flush=True)")
    for _ in range(5):
        assert found(wire) is not None
        wire.stream.send(b"key\n")
        assert blocked_reader.find(wire.init_pid() or 0) is None
        wire.stream.expect_exact(b"woke")


@pytest.mark.parametrize(("timeout", "seconds"), [("", float("inf")), ("0.125", 0.125), ("90", 90.0)])
@pytest.mark.parametrize(
    "way", ["select.select([0], [], [], {0})", "p=select.epoll(); p.register(0, 1); p.poll({0})"]
)
def test_timeouts_are_read(way: str, timeout: str, seconds: float, run: Callable[[str], LocalWire]) -> None:
    wire = run(f"while True: {way.format(timeout or None)}")
    seen = found(wire)
    assert seen is not None
    read = {blocked_reader.longest_sleep_s(seen[0]) for _ in range(20)}
    assert min(read) == pytest.approx(seconds)


def test_terminals_kept_for_children_count(run: Callable[[str], LocalWire]) -> None:
    inner = "os.execvp('sh', ['sh', '-c', 'echo in; sleep 0.5; read x'])"
    wire = run(f"pid, fd = pty.fork(); pid or {inner}; os.read(fd, 2); select.select([0], [], [])")
    began = time.monotonic()
    assert found(wire) is not None
    assert time.monotonic() - began > 0.4


def test_the_end_of_a_kept_terminal_is_seen(run: Callable[[str], LocalWire]) -> None:
    wire = run("pid, fd = pty.fork(); pid or os._exit(0); os.waitpid(pid, 0); os.read(0, 1)")
    seen = found(wire)
    assert seen is not None
    assert blocked_reader.keeps_empty_terminal(seen[0])
    assert not blocked_reader.keeps_empty_terminal(1)


def test_what_is_printed_behind_comes_behind(run: Callable[[str], LocalWire]) -> None:
    wire = run("print('before', flush=True); os.read(0, 1)")
    seen = found(wire)
    assert seen is not None
    assert blocked_reader.write_to_terminal(seen[0], b"behind")
    wire.stream.expect_exact(b"before\r\nbehind")


def test_the_dead_and_the_unknown_are_nobody(run: Callable[[str], LocalWire]) -> None:
    wire = run("os._exit(0)")
    wire.stream.expect([b"never", pexpect.EOF])
    assert blocked_reader.find(wire.init_pid() or 0) is None
    assert blocked_reader.find(2**22 + 1) is None
    assert blocked_reader.find(1, proc="/nowhere") is None
    assert not blocked_reader.write_to_terminal(2**22 + 1, b"x")
