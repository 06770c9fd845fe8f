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


def asked(
    sandbox: Sandbox, orders: JudgeOrders | ScriptOrders, *, tests: bytes, artifacts: bytes = b""
) -> dict[str, Any] | None:
    """Boot `sandbox` with `orders`; returns the signed report, None where none came. It is stopped afterwards.

    Args:
        tests: A tar of the tests.
        artifacts: A tar of what crosses from the agent's machine.

    Raises:
        SandboxError: The machine does not boot, or is lost: also where PID 1 or its terminal was, from outside.
    """
    key = secrets.token_bytes(32)
    console = sandbox.boot(orders, rows=24, cols=80)
    try:
        for line in (base64.b64encode(tests), base64.b64encode(artifacts), key.hex().encode()):
            send_all(console.stream, line + b"\n")
        report, ended = _awaited(console, key, time.monotonic() + orders.timeout_s + _GRACE_S)
        if report is None and (why := console.lost(ended=ended)):
            raise SandboxLost(f"the judge in {sandbox.name} gave no verdict: {why}")
        return report
    except OSError as error:
        if isinstance(error, SandboxError):
            raise
        raise SandboxLost(f"the judge in {sandbox.name} cannot be spoken to: {error}") from error
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
