"""The first exchange with PID 1, with a thread at the other end of a socket."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from pexpect.socket_pexpect import SocketSpawn

from terminal_gym.errors import NoShell, StartFailed
from terminal_gym.sandbox.handshake import send_all, shake_hands
from terminal_gym.trusted_runtime.orders import ERROR, OK, READY, ShellOrders, encode

ORDERS = ShellOrders("c0ffee00c0ffee00", env={"A": "b" * 5000})
Play = Callable[..., "SocketSpawn[bytes]"]


@pytest.fixture
def play() -> Iterator[Play]:
    """Plays PID 1: sends `before`, reads the orders, sends each of `after`; then hangs up, where told so."""
    ends: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def played(before: bytes, *after: bytes, hang_up: bool = False) -> SocketSpawn[bytes]:
        ours, theirs = socket.socketpair()
        ends.extend((ours, theirs))

        def other_end() -> None:
            theirs.sendall(before)
            if after:
                got = b""
                while not got.endswith(b"\n"):
                    got += theirs.recv(4096)
                assert got == encode(ORDERS)
            for piece in after:
                theirs.sendall(piece)
            if hang_up:
                theirs.shutdown(socket.SHUT_RDWR)

        threads.append(threading.Thread(target=other_end))
        threads[-1].start()
        return SocketSpawn(ours)

    yield played
    for thread in threads:
        thread.join(timeout=10)
    for end in ends:
        end.close()


def refusal(kind: str) -> bytes:
    return ERROR + base64.b64encode(json.dumps({"kind": kind, "message": "why"}).encode()) + b"\n"


def test_what_follows_ok_is_the_sessions(play: Play) -> None:
    stream = play(b"noise" + READY, b"\x01T", OK[2:] + b"$ ")
    shake_hands(stream, ORDERS, deadline_s=10)
    assert stream.buffer == b"$ "


def test_a_connection_that_is_reset_is_a_failed_start() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(READY)
    thread = threading.Thread(
        target=lambda: (theirs.recv(10), theirs.close())
    )  # the rest of the orders is lost
    thread.start()
    with ours, pytest.raises(StartFailed, match="the terminal was lost before PID 1 took its orders"):
        shake_hands(SocketSpawn(ours), ORDERS, deadline_s=10)
    thread.join()


def test_no_shell_is_told_apart(play: Play) -> None:
    with pytest.raises(NoShell, match="why"):
        shake_hands(play(READY, refusal("no_shell")), ORDERS, deadline_s=10)


@pytest.mark.parametrize("answer", [refusal("no_user"), b"\x01TG1 error ???\n", b"\x01TG1 what\n"])
def test_any_other_refusal_is_a_failed_start(play: Play, answer: bytes) -> None:
    with pytest.raises(StartFailed):
        shake_hands(play(READY, answer), ORDERS, deadline_s=10)


def test_an_end_before_the_orders_shows_what_was_printed(play: Play) -> None:
    with pytest.raises(StartFailed, match="exec format error"):
        shake_hands(play(b"exec format error", hang_up=True), ORDERS, deadline_s=10)


@pytest.mark.parametrize("deadline_s", [0.0, 0.05])
def test_silence_ends_at_the_deadline(play: Play, deadline_s: float) -> None:
    with pytest.raises(StartFailed, match="in time"):
        shake_hands(play(b""), ORDERS, deadline_s=deadline_s)


def test_send_all_sends_all() -> None:
    class Trickle:
        """Takes three bytes at a time, as a full socket buffer may."""

        taken = b""

        def send(self, s: bytes) -> int:
            self.taken += s[:3]
            return len(s[:3])

    out = Trickle()
    send_all(out, b"0123456789")  # type: ignore[arg-type]
    assert out.taken == b"0123456789"
