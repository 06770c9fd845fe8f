"""Writes a tar of one path to stdout: `python3 archive.py pack PATH LIMIT_BYTES`.

Run inside a sandbox's root, where nothing else runs. Names start with the path's last component, as they do in the
Engine API's archives. No link is followed below PATH, nothing is opened but regular files; devices and FIFOs are
headers only. What comes out is untrusted all the same: whoever unpacks it filters it.

Exit codes: 0 packed, 2 wrong use, 3 nothing is at PATH, 4 more bytes or entries than the limit, nothing was written.
"""

from __future__ import annotations

import os
import stat
import sys
import tarfile
from typing import BinaryIO

NOTHING_THERE, OVER_LIMIT = 3, 4
_MOST_ENTRIES = 100_000
_HEADER_BYTES = 512


class OverLimit(Exception):
    """More would have to be packed than the limit allows."""


def pack(path: str, limit_bytes: int, out: BinaryIO) -> None:
    """Write the archive to `out`; sizes are added up first, so a sparse terabyte costs nothing.

    Raises:
        FileNotFoundError: Nothing is at `path`.
        OverLimit: Before anything was written.
    """
    entries = _entries(path.rstrip("/") or "/", limit_bytes)
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        for entry in entries:
            _add(archive, *entry)


def _entries(path: str, limit_bytes: int) -> list[tuple[str, str, os.stat_result, str]]:
    """Return (name in the archive, path, status, first name of the same file) of everything there, parents first."""
    found: list[tuple[str, str, os.stat_result, str]] = []
    waiting = [(path.rpartition("/")[2] or ".", path, os.lstat(path))]
    size, first = 0, dict[tuple[int, int], str]()
    while waiting:
        name, place, status = waiting.pop()
        is_file = stat.S_ISREG(status.st_mode)
        named_twice = is_file and status.st_nlink > 1
        known_as = first.setdefault((status.st_dev, status.st_ino), name) if named_twice else name
        size += _HEADER_BYTES + (status.st_size if is_file and known_as == name else 0)
        if size > limit_bytes or len(found) >= _MOST_ENTRIES:
            raise OverLimit(f"{path}: more than {limit_bytes} bytes or {_MOST_ENTRIES} entries")
        found.append((name, place, status, known_as))
        if stat.S_ISDIR(status.st_mode):
            waiting += _children(name, place)
    return found


def _children(name: str, place: str) -> list[tuple[str, str, os.stat_result]]:
    try:
        names = sorted(os.listdir(place), reverse=True)
        return [(f"{name}/{child}", f"{place}/{child}", os.lstat(f"{place}/{child}")) for child in names]
    except OSError as error:  # deeper than a path can be long
        raise OverLimit(str(error)) from error


def _add(archive: tarfile.TarFile, name: str, place: str, status: os.stat_result, known_as: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = stat.S_IMODE(status.st_mode), max(0, int(status.st_mtime))
    entry.uid, entry.gid = status.st_uid, status.st_gid
    if known_as != name:
        entry.type, entry.linkname = tarfile.LNKTYPE, known_as
        archive.addfile(entry)
        return
    if stat.S_ISREG(status.st_mode):
        entry.size = status.st_size
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as source:
            archive.addfile(entry, _Exactly(source, entry.size))
        return
    if stat.S_ISLNK(status.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(place)
    elif stat.S_ISDIR(status.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISFIFO(status.st_mode):
        entry.type = tarfile.FIFOTYPE
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        entry.type = tarfile.CHRTYPE if stat.S_ISCHR(status.st_mode) else tarfile.BLKTYPE
        entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    else:
        return  # a socket has no place in a tar
    archive.addfile(entry)


class _Exactly:
    """A file that yields as many bytes as its header says, zeros where it has shrunk since."""

    def __init__(self, source: BinaryIO, size: int):
        self._source, self._left = source, size

    def read(self, size: int = -1) -> bytes:
        wanted = min(self._left if size < 0 else size, self._left)
        self._left -= wanted
        return self._source.read(wanted).ljust(wanted, b"\0")


def main(argv: list[str]) -> int:
    if len(argv) != 4 or argv[1] != "pack" or not argv[3].isdecimal():
        print("usage: archive.py pack PATH LIMIT_BYTES", file=sys.stderr)
        return 2
    try:
        pack(argv[2], int(argv[3]), sys.stdout.buffer)
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING_THERE
    except OverLimit as error:
        print(error, file=sys.stderr)
        return OVER_LIMIT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
