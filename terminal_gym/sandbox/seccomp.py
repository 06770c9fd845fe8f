"""The embedded sandbox's filter of system calls: a short list of what is refused, as a program for the kernel.

Refused is what reaches past the sandbox without asking for a capability outside of it: a user namespace of one's own
(in it a root mounts control groups, and so lifts its limits or stops its neighbours), leases on files that every
sandbox shares, kernel keyrings, and the parts of the kernel with the largest surface. It is no list of what is allowed,
as Docker's is, and does not replace one.

Source: seccomp(2), the call numbers of Linux 6.x.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _GO, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x05, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_NEW_USER, _SET_LEASE = 0x10000000, 1024
_X32 = 0x40000000  # set in the numbers of x86-64's third ABI
_REFUSED = (
    *("add_key", "request_key", "keyctl", "bpf", "perf_event_open", "userfaultfd", "open_by_handle_at"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "kexec_load", "init_module", "finit_module"),
)
_NAMES = (*_REFUSED, "clone", "unshare", "clone3", "fcntl")


class _Abi(NamedTuple):
    architecture: int  # AUDIT_ARCH_*
    numbers: Mapping[str, int]


def _abi(architecture: int, *numbers: int) -> _Abi:
    return _Abi(architecture, dict(zip(_NAMES, numbers, strict=True)))


_ABIS = (
    _abi(
        0xC000003E, 248, 249, 250, 321, 298, 323, 304, 425, 426, 427, 246, 175, 313, 56, 272, 435, 72
    ),  # x86-64
    _abi(
        0x40000003, 286, 287, 288, 357, 336, 374, 342, 425, 426, 427, 283, 128, 350, 120, 310, 435, 221
    ),  # i386
    _abi(
        0xC00000B7, 217, 218, 219, 280, 241, 282, 265, 425, 426, 427, 104, 105, 273, 220, 97, 435, 25
    ),  # arm64
)


def program() -> bytes:
    """Return the filter: an array of struct sock_filter. Calls of an unknown ABI do not exist."""
    whole = [_step(_LOAD, _ARCHITECTURE)]
    for abi in _ABIS:
        body = _body(abi)
        whole += [_step(_EQUAL, abi.architecture, 1, 0), _step(_GO, len(body)), *body]
    return b"".join([*whole, _refuse(errno.ENOSYS)])


def write(folder: Path) -> Path:
    """Write the filter into `folder`; returns its place."""
    place = folder / "calls.bpf"
    place.write_bytes(program())
    return place


def _body(abi: _Abi) -> list[bytes]:
    numbers = abi.numbers
    steps = [_step(_LOAD, _NUMBER), _step(_AT_LEAST, _X32, 0, 1), _refuse(errno.ENOSYS)]
    for name in _REFUSED:
        steps += [_step(_EQUAL, numbers[name], 0, 1), _refuse(errno.EPERM)]
    # Its flags lie in memory, where a filter cannot look; the C library then takes clone.
    steps += [_step(_EQUAL, numbers["clone3"], 0, 1), _refuse(errno.ENOSYS)]
    for name, argument, test, value in (
        ("clone", 0, _ANY_BIT, _NEW_USER),
        ("unshare", 0, _ANY_BIT, _NEW_USER),
        ("fcntl", 1, _EQUAL, _SET_LEASE),
    ):
        look = [_step(_LOAD, _ARGUMENTS + 8 * argument), _step(test, value, 0, 1), _refuse(errno.EPERM)]
        steps += [_step(_EQUAL, numbers[name], 0, len(look) + 1), *look, _step(_RETURN, _ALLOW)]
    return [*steps, _step(_RETURN, _ALLOW)]


def _step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_so, if_not, value)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)
