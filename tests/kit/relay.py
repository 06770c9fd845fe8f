"""A TCP door to an Engine that can fail in chosen ways: what a remote, slow or dying daemon looks like."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

Fault = Literal["refuse", "gone", "taken", "lose reply", "hang", "drop", "slow"]
FAULTS: dict[Fault, str] = {
    "refuse": "answer 500, unasked",
    "gone": "answer 404, unasked",
    "taken": "answer 409, unasked",
    "lose reply": "forward, then hang up on the reply",
    "hang": "take the request, and never answer",
    "drop": "let half a second of the reply through, then hang up",
    "slow": "answer a second late",
}
_STATUS = {"refuse": 500, "gone": 404, "taken": 409}
_SLOW_S, _DROP_S = 1.0, 0.5


@dataclass
class _Rule:
    request: re.Pattern[bytes]
    fault: Fault
    left: int


class _Pair:
    """One connection through the door."""

    def __init__(self, near: socket.socket, far: socket.socket):
        self.near, self.far = near, far
        self.lossy, self.deaf = threading.Event(), threading.Event()


class Relay:
    """Forwards connections on 127.0.0.1 to a unix socket."""

    def __init__(self, target: str = "/var/run/docker.sock"):
        self._target, self._rules, self._lock = target, list[_Rule](), threading.Lock()
        self._pairs: list[_Pair] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[str] = []  # first lines, as they came
        self.met = 0  # faults that some request ran into
        self._open = True
        self._run(self._accept)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def fail_next(self, request: str, fault: Fault, *, times: int = 1) -> None:
        """Let the next requests whose first line matches fail."""
        with self._lock:
            self._rules.append(_Rule(re.compile(request.encode()), fault, times))

    def cut(self) -> None:
        """Drop every connection and take no new one, as a killed daemon does."""
        self._open = False
        for pair in self._pairs:
            _shut(pair.near)
            _shut(pair.far)

    def mend(self) -> None:
        self._open = True

    def _run(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._open:
                near.close()
                continue
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self._target)
            except OSError:  # the daemon is gone
                near.close()
                far.close()
                continue
            pair = _Pair(near, far)
            self._pairs.append(pair)
            self._run(self._forward, pair)
            self._run(self._back, pair)

    def _forward(self, pair: _Pair) -> None:
        while data := _receive(pair.near):
            fault = self._fault_of(data)
            if fault in _STATUS:
                with contextlib.suppress(OSError):
                    pair.near.sendall(_refusal(_STATUS[fault]))
                break
            if fault == "hang":
                pair.deaf.set()
            if fault == "lose reply":
                pair.lossy.set()
            if fault == "drop":
                self._run(self._drop, pair)
            if fault == "slow":
                time.sleep(_SLOW_S)
            if not pair.deaf.is_set():
                with contextlib.suppress(OSError):
                    pair.far.sendall(data)
        with contextlib.suppress(OSError):
            pair.far.shutdown(socket.SHUT_WR)

    def _drop(self, pair: _Pair) -> None:
        time.sleep(_DROP_S)
        _shut(pair.near)
        _shut(pair.far)

    def _back(self, pair: _Pair) -> None:
        while (data := _receive(pair.far)) and not pair.lossy.is_set():
            with contextlib.suppress(OSError):
                pair.near.sendall(data)
        _shut(pair.near)

    def _fault_of(self, data: bytes) -> Fault | None:
        line = data.partition(b"\r\n")[0]
        if not re.match(rb"[A-Z]+ /\S* HTTP/1", line):
            return None
        with self._lock:
            self.requests.append(line.decode())
            for rule in self._rules:
                if rule.left and rule.request.match(line):
                    rule.left -= 1
                    self.met += 1
                    return rule.fault
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _shut(self._listener)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=10)
        for pair in self._pairs:
            pair.near.close()
            pair.far.close()


def _refusal(status: int) -> bytes:
    body = b'{"message":"refused by the relay"}'
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(65_536)
    except OSError:
        return b""


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
