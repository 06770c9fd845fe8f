"""A session on a local terminal: sizes, odd bytes, ends, limits; what every shell does is in the contract."""

from __future__ import annotations

import gc
import re
import socket
import statistics
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit.local_wire import LocalWire
from pexpect.socket_pexpect import SocketSpawn

from terminal_gym.errors import BadAction, SessionClosed, SettleTimeout
from terminal_gym.terminal.session import Session
from terminal_gym.terminal.settle import Patience
from terminal_gym.trajectory.record import Frame

NONCE = "5e55104a5e55104a"


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[LocalWire]:
    (tmp_path / ".profile").write_text("PS1='$ '\n")
    wire = LocalWire("bash", tmp_path, nonce=NONCE)
    yield wire
    wire.close()


@pytest.fixture
def session(wire: LocalWire) -> Session:
    session = Session(wire, nonce=NONCE)
    session.open(10)
    return session


def step(session: Session, keys: bytes, *, deadline_s: float = 20) -> str:
    session.send(keys)
    assert session.settle(deadline_s=deadline_s).fact != "deadline"
    return session.text()


def test_a_prompt_that_came_with_the_answer_to_the_orders_is_not_lost(wire: LocalWire) -> None:
    shown = b""
    while not shown.endswith(b"B;aid=%s\x07" % NONCE.encode()):
        shown += wire.stream.read_nonblocking(4096, 10)
    wire.stream.buffer = shown  # as the handshake leaves it
    frames: list[Frame] = []
    session = Session(wire, nonce=NONCE, frames=frames.append)
    assert session.open(10).fact == "prompt"
    assert b"".join(frame.data for frame in frames) == shown
    assert session.screen().text().strip() == "$"
    assert step(session, b"echo once\n") == "echo once\nonce\n$ "


# ── input ───────────────────────────────────────────────────────────────────────────────────────


def test_two_thousand_lines_are_pasted_whole(session: Session) -> None:
    step(session, b"n=0\n" + b"n=$((n+1))\n" * 2000)
    assert step(session, b"echo $n\n") == "echo $n\n2000\n$ "


def test_a_long_line_reaches_readline_whole(session: Session) -> None:
    sent = session.send(b"echo " + b"x" * 50_000 + b" | wc -c\n")
    assert not sent.overlong
    assert session.settle(deadline_s=20).fact == "prompt"
    assert session.text().endswith("\n50001\n$ ")


def test_a_line_that_the_terminal_will_cut_is_told(session: Session) -> None:
    step(session, b"wc -c\n")
    assert session.send(b"x" * 10_000 + b"\n").overlong
    assert not session.send(b"short\n").overlong
    assert "4096" in step(session, b"\x04") or "4102" in session.text()


def test_text_after_a_signal_is_intact(session: Session) -> None:
    assert "\nintact\n" in step(session, b"\x03echo int''act\n")
    session.send(b"sleep 30\n")
    session.settle(deadline_s=0.1)
    assert "\nintact\n" in step(session, b"\x1a\x03echo int''act\n")


def test_control_keys_go_through_at_once(session: Session) -> None:
    step(session, b"cat -v\n")
    assert "^P^Q^S^R" in step(session, b"\x16\x10\x16\x11\x16\x13\x16\x12\n")
    step(session, b"\x04")
    step(session, b"\x13\x07")  # readline's search, and its end
    assert "frozen" in step(session, b"echo not fro''zen\n")


def test_only_bytes_are_sent(session: Session) -> None:
    with pytest.raises(BadAction, match="str"):
        session.send("text")  # type: ignore[arg-type]


# ── output ──────────────────────────────────────────────────────────────────────────────────────


def test_output_is_what_was_printed_since_the_sending(session: Session) -> None:
    assert step(session, b"echo one\n") == "echo one\none\n$ "
    assert step(session, b"echo two\n") == "echo two\ntwo\n$ "
    assert b"133;D;0" in session.output()


def test_what_comes_between_two_steps_is_kept(session: Session) -> None:
    step(session, b"(read x; echo la''te) < <(sleep .2; echo) &\n")
    session.wait(lambda quiet_s: quiet_s > 0.4, deadline_s=5)
    assert "late" in session.text()


def test_characters_split_over_reads_are_whole(session: Session) -> None:
    command = "for i in $(seq 300); do printf '漢字é'; done; echo\n".encode()
    text = step(session, command)
    assert text.count("漢字é") == 301
    assert "\ufffd" not in text


@pytest.mark.parametrize("count", [2])
def test_noise_is_survived(count: int, session: Session) -> None:
    text = step(
        session,
        b"head -c %d000000 /dev/urandom | tr -d '\\030\\032'; printf '\\033c\\n'; stty sane\n" % count,
    )
    text.encode()
    session.screen().text().encode()
    assert len(session.output()) + session.omitted > count * 900_000
    assert step(session, b"echo st''ill\n").endswith("still\n$ ")


def test_a_flood_leaves_memory_flat(session: Session) -> None:
    step(session, b"seq 10\n")
    gc.collect()
    tracemalloc.start()
    step(session, b"seq 3000000\n", deadline_s=60)
    session.screen()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert session.omitted > 20_000_000
    assert peak < 4 << 20
    assert session.text().endswith("2999999\n3000000\n$ ")


def test_queries_are_not_answered(session: Session) -> None:
    session.send(
        rb"printf '\033[6n\033[c\033[>c\033]11;?\007\033[?2026$p'; read -t 0.3 -n 1 x; echo no''thing:$x:"
    )
    session.send(b"\n")
    assert session.wait(lambda quiet_s: session.text().endswith("\nnothing::\n$ "), deadline_s=5)


def test_text_is_clipped(session: Session) -> None:
    step(session, b"seq 10000\n")
    text = session.text(200)
    assert text.startswith("seq 10000\n1\n2\n")
    assert text.endswith("9999\n10000\n$ ")
    assert len(text) < 260


# ── ends ────────────────────────────────────────────────────────────────────────────────────────


def test_a_killed_shell_is_reported(session: Session, wire: LocalWire) -> None:
    session.send(b"kill -9 $$\n")
    assert session.settle(deadline_s=5).fact == "closed"
    assert session.settle(deadline_s=5).fact == "closed"
    with pytest.raises(SessionClosed, match="137") as caught:
        session.send(b"echo\n")
    assert caught.value.exit_code == 137


def test_waiting_ends_with_the_screen(session: Session) -> None:
    session.send(b"echo se''en\n")
    assert "seen" in session.wait(lambda quiet_s: "\nseen" in session.text(), deadline_s=5).text()
    with pytest.raises(SettleTimeout) as caught:
        session.wait(lambda quiet_s: False, deadline_s=0.05)
    assert "seen" in caught.value.screen.text()
    session.send(b"exit\n")
    with pytest.raises(SessionClosed):
        session.wait(lambda quiet_s: False, deadline_s=5)


def test_a_shell_that_never_prompts(tmp_path: Path) -> None:
    wire = LocalWire("bash", tmp_path, nonce=NONCE, argv=["sleep", "60"])
    with pytest.raises(SettleTimeout, match="no prompt"):
        Session(wire, nonce=NONCE).open(0.2)
    wire.close()


def test_closing_twice_is_nothing(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(SessionClosed):
        session.send(b"x")


# ── size, frames, cost ──────────────────────────────────────────────────────────────────────────


def test_resizing_reaches_the_program(session: Session) -> None:
    session.resize(24, 80)
    assert "24 80" in step(session, b"stty size\n")
    assert session.screen().size == (24, 80)


def test_frames_replay_to_the_same_bytes(wire: LocalWire) -> None:
    frames: list[Frame] = []
    session = Session(wire, nonce=NONCE, frames=frames.append)
    session.open(10)
    frames.clear()
    step(session, b"echo hi\n")
    session.resize(30, 90)
    assert b"".join(frame.data for frame in frames if frame.direction == "out") == session.output()
    assert [frame.data for frame in frames if frame.direction == "in"] == [b"echo hi\n"]
    assert frames[-1].direction == "resize"
    assert frames[-1].data == b"90x30"
    assert [frame.at_s for frame in frames] == sorted(frame.at_s for frame in frames)


def test_a_step_takes_about_a_millisecond(session: Session) -> None:
    def seconds() -> float:
        began = time.perf_counter()
        step(session, b"echo hi\n")
        return time.perf_counter() - began

    # Ten times what an idle machine takes: a pause or a poll in the wrong place would show, a busy machine not.
    assert statistics.median(seconds() for _ in range(50)) < 0.005


def test_waiting_for_a_long_command_costs_little(session: Session) -> None:
    session.send(b"sleep 1\n")
    began = time.process_time()
    settled = session.settle(deadline_s=5)
    assert settled.fact == "prompt"
    assert settled.seconds >= 1
    assert time.process_time() - began < 0.1


def test_an_idle_session_is_small(tmp_path: Path) -> None:
    wires = [LocalWire("bash", tmp_path, nonce=NONCE) for _ in range(4)]
    for wire in wires:
        wire.stream.delaybeforesend = None
    Session(wires[0], nonce=NONCE).open(10)
    gc.collect()
    tracemalloc.start()
    sessions = [Session(wire, nonce=NONCE) for wire in wires[1:]]
    for session in sessions:
        session.open(10)
        step(session, b"seq 1000\n")
        session.screen()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for wire in wires:
        wire.close()
    assert used / len(sessions) < 3 << 20


# ── behind a socket, as on the Engine ───────────────────────────────────────────────────────────


class SlowRelay:
    """A daemon between us and the terminal: copies both ways, each chunk some milliseconds late."""

    def __init__(self, wire: LocalWire, delay_s: float):
        self._wire, self._delay_s = wire, delay_s
        ours, theirs = socket.socketpair()
        self.stream: SocketSpawn[bytes] = SocketSpawn(ours)
        self._ends = (ours, theirs)
        self.init_pid, self.resize = wire.init_pid, wire.resize
        self.ask_for_hint, self.exit_code = wire.ask_for_hint, wire.exit_code
        reads: list[tuple[Callable[[], bytes], Callable[[bytes], object]]] = [
            (lambda: theirs.recv(4096), wire.stream.send),
            (lambda: wire.stream.read_nonblocking(4096, None), theirs.sendall),
        ]
        for source, sink in reads:
            threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: Callable[[], bytes], sink: Callable[[bytes], object]) -> None:
        try:
            while data := source():
                threading.Event().wait(self._delay_s)
                sink(data)
        except Exception:  # either end closed
            return

    def close(self) -> None:
        for end in self._ends:
            end.close()


@pytest.mark.parametrize("waits", ["reader", "hint"])
@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.05, 0.15])
def test_behind_a_slow_daemon_nothing_is_early(delay_s: float, waits: str, tmp_path: Path) -> None:
    (tmp_path / ".profile").write_text("PS1='$ '\n")
    wire = LocalWire("bash", tmp_path, nonce=NONCE, sees_proc=waits == "reader", hints=waits == "hint")
    wire.stream.delaybeforesend = None
    relay = SlowRelay(wire, delay_s)
    session = Session(relay, nonce=NONCE)
    session.open(10)
    assert session.sources == (waits,)
    for keys, fact, shows in (
        (b"echo hi\n", "prompt", r"\nhi\n\$ $"),
        (b"sleep 0.1; (exit 5)\n", "prompt", r"\$ $"),
        (b"echo a\nsleep 0.2\necho b\n", "prompt", r"\nb\n\$ $"),
        (b"python3 -q\n", waits, r">>> $"),
        (b"print(6 * 7)\n", waits, r"\n42\n>>> $"),
        (b"import time; time.sleep(0.2); print(6 * 7)\n", waits, r"\n42\n>>> $"),
        (b"exit()\n", "prompt", r"\$ $"),
        (b"read -p 'name? ' x\n", waits, r"\nname\? $"),
        (b"half", waits, r"half$"),
        (b"\n", "prompt", r"\$ $"),
        (b"echo part", waits, r"part$"),
        (b"\n", "prompt", r"part\n\$ $"),
    ):
        session.send(keys)
        assert session.settle(deadline_s=10).fact == fact, (keys, session.text())
        assert re.search(shows, session.text()), (keys, session.text())
    relay.close()
    wire.close()


def test_a_first_prompt_that_the_daemon_still_holds_is_waited_for(tmp_path: Path) -> None:
    """The shell reads, and for eight seconds nothing of it has come."""
    wire = LocalWire("bash", tmp_path, nonce=NONCE)
    wire.stream.delaybeforesend = None
    relay = SlowRelay(wire, 8.0)
    threading.Timer(
        6.0, vars(relay).update, [{"_delay_s": 0.0}]
    ).start()  # what comes after the first comes at once
    assert Session(relay, nonce=NONCE).open(30).fact == "prompt"
    relay.close()
    wire.close()


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_first_prompt_is_known_before_anything_was_typed(shell: str, tmp_path: Path) -> None:
    wire = LocalWire(shell, tmp_path, nonce=NONCE)
    session = Session(wire, nonce=NONCE)
    session.open(10)  # on a busy machine it may settle before the prompt comes
    session.wait(lambda quiet_s: session.is_at_prompt(), deadline_s=10)
    session.send(b"cat\n")
    assert session.settle(deadline_s=5).fact == "reader"
    assert not session.is_at_prompt()
    wire.close()


def test_silence_is_the_last_resort(tmp_path: Path) -> None:
    wire = LocalWire("bash", tmp_path, nonce=NONCE, sees_proc=False)
    session = Session(wire, nonce=NONCE, patience=Patience(silence_s=0.3))
    session.open(10)
    assert session.sources == ()
    session.send(b"cat\n")
    settled = session.settle(deadline_s=5)
    assert settled.fact == "silence"
    assert settled.seconds >= 0.3
    wire.close()
