"""One exchange with PID 1 as a judge: boot it with orders, send what it judges, believe one signed line."""

from __future__ import annotations

import base64
import secrets
import time
from typing import Any

import pexpect

from terminal_gym.errors import SandboxError, SandboxLost
from terminal_gym.sandbox.base import Console, Sandbox
from terminal_gym.sandbox.handshake import send_all
from terminal_gym.trusted_runtime.orders import JudgeOrders, ScriptOrders
from terminal_gym.validation.report import signed

_GRACE_S = 10.0  # beyond the supervisor's own deadline
_STREAM_CAP = 64 * 1024 * 1024
_CHUNK = 131_072


class Judge:
    """A sandbox whose PID 1 has its orders, and waits for what it is to judge.

    It holds no test and no key yet; its child imports pytest meanwhile.

    Args:
        sandbox: Not booted; the caller closes it.

    Raises:
        SandboxError: The machine does not boot.
    """

    def __init__(self, sandbox: Sandbox, orders: JudgeOrders | ScriptOrders):
        self._sandbox, self._orders = sandbox, orders
        self._console = sandbox.boot(orders, rows=24, cols=80)

    def ask(self, *, tests: bytes, artifacts: bytes = b"") -> dict[str, Any] | None:
        """Return the signed report, None where none came. What it ran is dead then; the sandbox stays as it is.

        Args:
            tests: A tar of the tests.
            artifacts: A tar of what crosses from the agent's machine.

        Raises:
            SandboxError: The machine is lost: also where PID 1 or its terminal was, from outside.
        """
        key, name = secrets.token_bytes(32), self._sandbox.name
        try:
            for line in (base64.b64encode(tests), base64.b64encode(artifacts), key.hex().encode()):
                send_all(self._console.stream, line + b"\n")
            report, ended = _awaited(self._console, key, time.monotonic() + self._orders.timeout_s + _GRACE_S)
            if report is None and (why := self._console.lost(ended=ended)):
                raise SandboxLost(f"the judge in {name} gave no verdict: {why}")
            return report
        except OSError as error:
            if isinstance(error, SandboxError):
                raise
            raise SandboxLost(f"the judge in {name} cannot be spoken to: {error}") from error


def asked(
    sandbox: Sandbox, orders: JudgeOrders | ScriptOrders, *, tests: bytes, artifacts: bytes = b""
) -> dict[str, Any] | None:
    """Boot `sandbox` with `orders`, ask it at once, and stop it; see `Judge`."""
    try:
        return Judge(sandbox, orders).ask(tests=tests, artifacts=artifacts)
    finally:
        sandbox.stop()


def _awaited(console: Console, key: bytes, until: float) -> tuple[dict[str, Any] | None, bool]:
    """(the signed report, whether the stream has ended without one)"""
    stream, ended = bytearray(console.stream.buffer), False
    scanned = 0
    while time.monotonic() < until and len(stream) < _STREAM_CAP:
        end = stream.rfind(b"\n") + 1
        if end > scanned:
            if (report := signed(bytes(stream[scanned:end]), key)) is not None:
                return report, False
            scanned = end
        try:
            stream += console.stream.read_nonblocking(_CHUNK, timeout=max(0.0, until - time.monotonic()))
        except pexpect.TIMEOUT:
            break
        except (pexpect.EOF, ConnectionError):
            ended = True
            break
    return signed(bytes(stream[scanned:]), key), ended
