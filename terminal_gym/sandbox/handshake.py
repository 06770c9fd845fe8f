"""The first exchange with PID 1 over any pexpect stream: READY, orders, OK. See `trusted_runtime/orders.py`."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Protocol, cast

import pexpect

from terminal_gym.errors import NoShell, StartFailed, TerminalGymError
from terminal_gym.trusted_runtime.orders import ERROR, OK, READY, Orders, encode

if TYPE_CHECKING:
    from pexpect.spawnbase import SpawnBase

_CHUNK = 65_536


class _Writable(Protocol):
    def send(self, s: bytes) -> int: ...


def shake_hands(stream: SpawnBase[bytes], orders: Orders, *, deadline_s: float) -> None:
    """Wait for PID 1, give it `orders`, wait until it has accepted them.

    What it sent after OK belongs to the session and is left in `stream.buffer`.

    Raises:
        NoShell: The image has none of the wanted shells.
        StartFailed: The stream ended, the deadline came, or PID 1 refused.
    """
    until = time.monotonic() + deadline_s
    seen = _read_past(stream, b"", READY, until=until)
    try:
        send_all(stream, encode(orders))
    except OSError as error:
        raise _lost(error) from error
    seen = _read_past(stream, seen, b"\n", until=until, start=b"\x01TG1 ")
    line, _, rest = seen.partition(b"\n")
    if line + b"\n" != OK:
        raise _refusal(line)
    stream.buffer = rest


def send_all(stream: SpawnBase[bytes], data: bytes) -> None:
    """Write all of `data`; the other end must be reading."""
    out = cast("_Writable", stream)
    while data:
        data = data[out.send(data) :]


def _read_past(
    stream: SpawnBase[bytes], seen: bytes, mark: bytes, *, until: float, start: bytes = b""
) -> bytes:
    """Read until `mark`; returns what follows it, or, with `start`, everything from `start` on."""
    while True:
        begin = seen.find(start)
        if begin >= 0 and (found := seen.find(mark, begin)) >= 0:
            return seen[begin:] if start else seen[found + len(mark) :]
        try:
            seen += stream.read_nonblocking(_CHUNK, timeout=max(0.001, until - time.monotonic()))
        except pexpect.EOF:
            raise StartFailed(f"PID 1 ended before it took its orders; it printed {seen[-500:]!r}") from None
        except OSError as error:  # a connection to the Engine that is reset
            raise _lost(error) from error
        except pexpect.TIMEOUT:
            raise StartFailed(f"PID 1 did not answer in time; it printed {seen[-500:]!r}") from None


def _lost(error: OSError) -> StartFailed:
    return StartFailed(f"the terminal was lost before PID 1 took its orders: {error}")


def _refusal(line: bytes) -> TerminalGymError:
    try:
        told = json.loads(base64.b64decode(line.removeprefix(ERROR)))
        kind, message = str(told["kind"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        return StartFailed(f"PID 1 answered {line[:200]!r}")
    if kind == "no_shell":
        return NoShell(f"The image has no shell that a session can drive: {message}. Add one to the image.")
    return StartFailed(f"PID 1 refused its orders ({kind}): {message}")
