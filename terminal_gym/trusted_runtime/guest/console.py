"""The guest's end of the console: raw bytes in lines, orders in, OK or an error out.

Imports are chosen by their cost: a sandbox is ready once this has run, and `json` alone would double the time.
"""

from __future__ import annotations

import _json
import binascii
import os
import termios

TYPE_CHECKING = False  # `typing` costs a third of the boot; the type checker knows the name
if TYPE_CHECKING:
    from typing import Any, NoReturn

READY = b"\x01TG1 ready\n"  # the same as in orders.py, which the tree does not hold
OK = b"\x01TG1 ok\n"
ERROR = b"\x01TG1 error "
_STDIN, _STDOUT = 0, 1

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


class Lines:
    """Lines from a file descriptor; keeps what lies beyond the line."""

    def __init__(self, fd: int):
        self._fd, self._rest = fd, b""

    def read(self) -> bytes:
        """Return the next line without its newline; the process ends where the terminal is gone."""
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            try:
                piece = os.read(self._fd, 1 << 16)
            except OSError:  # EIO: hung up
                piece = b""
            if not piece:
                os._exit(1)
            pieces.append(piece)
        last, _, self._rest = pieces[-1].partition(b"\n")
        pieces[-1] = last
        return b"".join(pieces)


def decode(line: bytes) -> dict[str, Any]:
    """Return the orders of one line; ValueError, TypeError or StopIteration where it holds none."""
    scanning: Any = _Scanning
    orders = _json.make_scanner(scanning)(binascii.a2b_base64(line).decode(), 0)[0]
    if not isinstance(orders, dict):
        raise TypeError(f"orders are a {type(orders).__name__}")
    return orders


class _Scanning:
    """What the scanner in C asks of `json.JSONDecoder`, which costs 9 ms to import."""

    strict = True
    object_hook = object_pairs_hook = array_hook = parse_constant = None
    parse_float, parse_int = float, int


def write(data: bytes, fd: int = _STDOUT) -> None:
    """Write all of `data`; the process ends where the terminal is gone."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except OSError:
            os._exit(1)


def fail(kind: str, message: str) -> NoReturn:
    """Refuse the orders and end."""
    import json

    write(ERROR + binascii.b2a_base64(json.dumps({"kind": kind, "message": message}).encode()))
    os._exit(70)


def make_raw(fd: int = _STDIN) -> None:
    """Bytes pass unchanged in both directions, no echo, no signals."""
    attributes = termios.tcgetattr(fd)
    attributes[_IFLAG] = attributes[_OFLAG] = attributes[_LFLAG] = 0
    attributes[_CFLAG] |= termios.CS8
    attributes[_CC][termios.VMIN], attributes[_CC][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def make_sane() -> None:
    """Set the terminal as a login would, save that ^S and ^Q reach the program: a stopped screen looks dead."""
    attributes = termios.tcgetattr(_STDIN)
    iutf8 = 0o40000  # not in termios before Python 3.14
    attributes[_IFLAG] = termios.BRKINT | termios.ICRNL | termios.IMAXBEL | iutf8
    attributes[_OFLAG] = termios.OPOST | termios.ONLCR
    attributes[_LFLAG] = (termios.ISIG | termios.ICANON | termios.IEXTEN) | (
        termios.ECHO | termios.ECHOE | termios.ECHOK | termios.ECHOCTL | termios.ECHOKE
    )
    keys = {"VINTR": 3, "VQUIT": 28, "VERASE": 127, "VKILL": 21, "VEOF": 4, "VSTART": 17, "VSTOP": 19}
    keys |= {"VSUSP": 26, "VREPRINT": 18, "VDISCARD": 15, "VWERASE": 23, "VLNEXT": 22, "VEOL": 0, "VEOL2": 0}
    for name, key in keys.items():
        attributes[_CC][getattr(termios, name)] = bytes([key])
    attributes[_CC][termios.VMIN] = b"\x01"
    termios.tcsetattr(_STDIN, termios.TCSANOW, attributes)
