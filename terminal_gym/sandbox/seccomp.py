"""The embedded sandbox's filter of system calls, as a program for the kernel.

Refused is what Docker's default profile does not allow a container with the capabilities of ours: user namespaces (in
one a root mounts control groups, and so lifts its limits or stops its neighbours), kernel keyrings, and the parts of
the kernel with the largest surface. And, which Docker allows, leases on files that every sandbox shares. What is newer
than the table does not exist, as for a kernel of its age; programs then take the older call.

Source: seccomp(2), the call numbers of Linux 6.1, Docker's "Seccomp security profiles".
"""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import NamedTuple

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _GO, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x05, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_NEW_NAMESPACES, _SET_LEASE, _AF_VSOCK = 0x7E020080, 1024, 40
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, 32 bits of it, the old uname, both, a question
_CLONE3, _NEWEST = (
    435,
    450,
)  # on every architecture alike since 424; the third ABI of x86-64 has numbers far above
# name: number on x86-64, i386, arm64; None where it has no such call
_REFUSED: dict[str, tuple[int | None, int | None, int | None]] = {
    # what reaches into the kernel or past control groups
    "add_key": (248, 286, 217),
    "request_key": (249, 287, 218),
    "keyctl": (250, 288, 219),
    "bpf": (321, 357, 280),
    "perf_event_open": (298, 336, 241),
    "userfaultfd": (323, 374, 282),
    "open_by_handle_at": (304, 342, 265),
    "io_uring_setup": (425, 425, 425),
    "io_uring_enter": (426, 426, 426),
    "io_uring_register": (427, 427, 427),
    "kexec_load": (246, 283, 104),
    "kexec_file_load": (320, None, 294),
    "init_module": (175, 128, 105),
    "finit_module": (313, 350, 273),
    "delete_module": (176, 129, 106),
    "lookup_dcookie": (212, 253, 18),
    "nfsservctl": (180, 169, 42),
    "fanotify_init": (300, 338, 262),
    "kcmp": (312, 349, 272),
    "pidfd_getfd": (438, 438, 438),
    "process_madvise": (440, 440, 440),
    # namespaces and mounts
    "setns": (308, 346, 268),
    "mount": (165, 21, 40),
    "umount": (None, 22, None),
    "umount2": (166, 52, 39),
    "pivot_root": (155, 217, 41),
    "mount_setattr": (442, 442, 442),
    "move_mount": (429, 429, 429),
    "open_tree": (428, 428, 428),
    "fsopen": (430, 430, 430),
    "fsconfig": (431, 431, 431),
    "fsmount": (432, 432, 432),
    "fspick": (433, 433, 433),
    "sethostname": (170, 74, 161),
    "setdomainname": (171, 121, 162),
    # the machine's memory, clocks, disks and devices
    "get_mempolicy": (239, 275, 236),
    "set_mempolicy": (238, 276, 237),
    "set_mempolicy_home_node": (450, 450, 450),
    "mbind": (237, 274, 235),
    "migrate_pages": (256, 294, 238),
    "move_pages": (279, 317, 239),
    "settimeofday": (164, 79, 170),
    "stime": (None, 25, None),
    "clock_settime": (227, 264, 112),
    "clock_settime64": (None, 404, 404),
    "swapon": (167, 87, 224),
    "swapoff": (168, 115, 225),
    "quotactl": (179, 131, 60),
    "quotactl_fd": (443, 443, 443),
    "acct": (163, 51, 89),
    "reboot": (169, 88, 142),
    "syslog": (103, 103, 116),
    "ioperm": (173, 101, None),
    "iopl": (172, 110, None),
    "vm86": (None, 166, None),
    "vm86old": (None, 113, None),
    "vhangup": (153, 111, 58),
    "uselib": (134, 86, None),
    "ustat": (136, 62, None),
    "sysfs": (139, 135, None),
}


class _Abi(NamedTuple):
    architecture: int  # AUDIT_ARCH_*
    column: int  # in the table
    clone: int
    unshare: int
    fcntl: tuple[int, ...]
    socket: int
    personality: int


_ABIS = (
    _Abi(0xC000003E, 0, 56, 272, (72,), 41, 135),  # x86-64
    _Abi(0x40000003, 1, 120, 310, (55, 221), 359, 136),  # i386
    _Abi(0xC00000B7, 2, 220, 97, (25,), 198, 92),  # arm64
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
    steps = [_step(_LOAD, _NUMBER), _step(_AT_LEAST, _NEWEST + 1, 0, 1), _refuse(errno.ENOSYS)]
    for numbers in _REFUSED.values():
        if (number := numbers[abi.column]) is not None:
            steps += [_step(_EQUAL, number, 0, 1), _refuse(errno.EPERM)]
    # Its flags lie in memory, where a filter cannot look; the C library then takes clone.
    steps += [_step(_EQUAL, _CLONE3, 0, 1), _refuse(errno.ENOSYS)]
    for number, argument, test, value in (
        (abi.clone, 0, _ANY_BIT, _NEW_NAMESPACES & ~0xFF),  # there the lowest byte is a signal
        (abi.unshare, 0, _ANY_BIT, _NEW_NAMESPACES),
        *((number, 1, _EQUAL, _SET_LEASE) for number in abi.fcntl),
        (abi.socket, 0, _EQUAL, _AF_VSOCK),
    ):
        steps += _only(number, argument, [_step(test, value, 0, 1), _refuse(errno.EPERM)])
    allowed = [one for kind in _PERSONALITIES for one in (_step(_EQUAL, kind, 0, 1), _step(_RETURN, _ALLOW))]
    steps += _only(abi.personality, 0, [*allowed, _refuse(errno.EPERM)])
    return [*steps, _step(_RETURN, _ALLOW)]


def _only(number: int, argument: int, looks: list[bytes]) -> list[bytes]:
    """Look at the lower half of an argument of one call, which is allowed where `looks` decide nothing."""
    look = [_step(_LOAD, _ARGUMENTS + 8 * argument), *looks]
    return [_step(_EQUAL, number, 0, len(look) + 1), *look, _step(_RETURN, _ALLOW)]


def _step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_so, if_not, value)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)
