"""A TCP door to the local Engine that can fail in chosen ways: what a remote, slow or dying daemon looks like."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from typing import Literal, Self

Fault = Literal["refuse", "lose reply"]  # answer 500 unasked; forward, then hang up on the reply
_REFUSAL = b'{"message":"refused by the relay"}'


class Relay:
    """Forwards connections on 127.0.0.1 to a unix socket."""

    def __init__(self, target: str = "/var/run/docker.sock"):
        self._target, self._faults, self._lock = (
            target,
            list[tuple[re.Pattern[bytes], Fault]](),
            threading.Lock(),
        )
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = True
        self._run(self._accept)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def fail_next(self, request: str, fault: Fault) -> None:
        """Let the next request whose first line matches fail."""
        with self._lock:
            self._faults.append((re.compile(request.encode()), fault))

    def cut(self) -> None:
        """Drop every connection and take no new one, as a killed daemon does."""
        self._open = False
        for pair in self._pairs:
            for end in pair:
                _shut(end)

    def mend(self) -> None:
        self._open = True

    def _run(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
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
            far.connect(self._target)
            self._pairs.append((near, far))
            lossy = threading.Event()
            self._run(self._forward, near, far, lossy)
            self._run(self._back, far, near, lossy)

    def _forward(self, near: socket.socket, far: socket.socket, lossy: threading.Event) -> None:
        while data := _receive(near):
            fault = self._fault_of(data)
            if fault == "refuse":
                head = f"HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: {len(_REFUSAL)}\r\n"
                with contextlib.suppress(OSError):
                    near.sendall(head.encode() + b"Connection: close\r\n\r\n" + _REFUSAL)
                break
            if fault == "lose reply":
                lossy.set()
            with contextlib.suppress(OSError):
                far.sendall(data)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    def _back(self, far: socket.socket, near: socket.socket, lossy: threading.Event) -> None:
        while (data := _receive(far)) and not lossy.is_set():
            with contextlib.suppress(OSError):
                near.sendall(data)
        _shut(near)

    def _fault_of(self, data: bytes) -> Fault | None:
        line = data.partition(b"\r\n")[0]
        with self._lock:
            for entry in self._faults:
                if entry[0].match(line):
                    self._faults.remove(entry)
                    return entry[1]
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
            for end in pair:
                end.close()


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(65_536)
    except OSError:
        return b""


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
