"""Who a user name stands for in this sandbox: its /etc/passwd and /etc/group, read as untrusted text.

By hand, because the C library's lookups load what nsswitch.conf names.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # `typing` and `collections` cost a third of the boot; the type checker knows the name
if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BYTES = 1 << 20


class Account:
    """One entry of the passwd file, and the supplementary groups that go with it."""

    __slots__ = ("gid", "groups", "home", "name", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], name: str, home: str):
        self.uid, self.gid, self.groups, self.name, self.home = uid, gid, groups, name, home


def resolve(user: str, etc: str = "/etc") -> Account:
    """Return the account for "", "name", "uid", "name:group" or "uid:gid"; "" is root.

    Raises:
        LookupError: A name that the files do not hold. A bare number needs no entry.
    """
    wanted, _, group = (user or "0").partition(":")
    entry = next((e for e in _passwd(etc) if wanted in (e.name, str(e.uid))), None)
    if entry is None:
        if not wanted.isdecimal():
            raise LookupError(f"no user is named {wanted!r}")
        uid = int(wanted)
        entry = Account(uid, 0, [], "root" if uid == 0 else wanted, "/root" if uid == 0 else "/")
    if not group:
        members = [gid for _, gid, names in _groups(etc) if entry.name in names]
        entry.groups = members
        return entry
    if group.isdecimal():
        entry.gid = int(group)
        return entry
    for name, gid, _ in _groups(etc):
        if name == group:
            entry.gid = gid
            return entry
    raise LookupError(f"no group is named {group!r}")


def check_mapped(account: Account, proc: str = "/proc") -> None:
    """Raise LookupError where this user namespace has no such uid or gid, so that nobody can become it."""
    for kind, number in (("uid", account.uid), ("gid", account.gid)):
        ranges = [[int(field) for field in fields] for fields in _fields(f"{proc}/self/{kind}_map")]
        if number and ranges and not any(start <= number < start + length for start, _, length in ranges):
            raise LookupError(
                f"{kind} {number} of {account.name!r} is not mapped in this sandbox: run it as root"
            )


def _fields(path: str) -> list[list[str]]:
    return [line.split() for line in _text(path).splitlines()]


def _passwd(etc: str) -> Iterator[Account]:
    for fields in _rows(f"{etc}/passwd", 7):
        if fields[2].isdecimal() and fields[3].isdecimal():
            yield Account(int(fields[2]), int(fields[3]), [], fields[0], fields[5] or "/")


def _groups(etc: str) -> Iterator[tuple[str, int, list[str]]]:
    for fields in _rows(f"{etc}/group", 4):
        if fields[2].isdecimal():
            yield fields[0], int(fields[2]), fields[3].split(",")


def _rows(path: str, width: int) -> Iterator[list[str]]:
    for line in _text(path).split("\n"):
        fields = line.split(":")
        if len(fields) >= width:
            yield fields


def _text(path: str) -> str:
    """Return the start of a regular file, "" for anything else (a FIFO, an endless device)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, _MOST_BYTES).decode(errors="replace") if stat.S_ISREG(os.fstat(fd).st_mode) else ""
    except OSError:
        return ""
    finally:
        os.close(fd)
