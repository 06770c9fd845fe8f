"""One exchange with PID 1 as a judge: boot it with orders, send what it judges, believe one signed line."""

from __future__ import annotations

import base64
import secrets
import time
from typing import Any

import pexpect

from terminal_gym.sandbox.base import Console, Sandbox
from terminal_gym.sandbox.handshake import send_all
from terminal_gym.trusted_runtime.orders import JudgeOrders, ScriptOrders
from terminal_gym.validation.report import signed

_GRACE_S = 10.0  # beyond the supervisor's own deadline
_STREAM_CAP = 64 * 1024 * 1024
_CHUNK = 131_072


def asked(
    sandbox: Sandbox, orders: JudgeOrders | ScriptOrders, *, tests: bytes, artifacts: bytes = b""
) -> dict[str, Any] | None:
    """Boot `sandbox` with `orders`; returns the signed report, None where none came. It is stopped afterwards.

    Args:
        tests: A tar of the tests.
        artifacts: A tar of what crosses from the agent's machine.

    Raises:
        SandboxError: The machine does not boot, or is lost.
    """
    key = secrets.token_bytes(32)
    console = sandbox.boot(orders, rows=24, cols=80)
    try:
        for line in (base64.b64encode(tests), base64.b64encode(artifacts), key.hex().encode()):
            send_all(console.stream, line + b"\n")
        return _awaited(console, key, time.monotonic() + orders.timeout_s + _GRACE_S)
    finally:
        sandbox.stop()


def _awaited(console: Console, key: bytes, until: float) -> dict[str, Any] | None:
    stream = bytearray(console.stream.buffer)
    scanned = 0
    while time.monotonic() < until and len(stream) < _STREAM_CAP:
        end = stream.rfind(b"\n") + 1
        if end > scanned:
            if (report := signed(bytes(stream[scanned:end]), key)) is not None:
                return report
            scanned = end
        try:
            stream += console.stream.read_nonblocking(_CHUNK, timeout=max(0.0, until - time.monotonic()))
        except (pexpect.EOF, pexpect.TIMEOUT):
            break
    return signed(bytes(stream[scanned:]), key)
