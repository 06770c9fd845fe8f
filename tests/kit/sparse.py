"""A tar of a file that is nearly all hole: a few bytes that claim to be many."""

from __future__ import annotations

import tarfile


def sparse_tar(name: str, size: int, data: bytes) -> bytes:
    """Return a tar of one sparse file (GNU's old kind): `data` at its beginning, a hole up to `size`."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = len(data), tarfile.GNUTYPE_SPARSE
    head = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = _octal(0) + _octal(len(data))
    head[483:495] = _octal(size)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data + bytes(-len(data) % tarfile.BLOCKSIZE) + bytes(tarfile.BLOCKSIZE * 2)


def _octal(number: int) -> bytes:
    """Twelve bytes; what octal digits cannot say in binary, as GNU does."""
    return b"%011o\0" % number if number < 8**11 else b"\x80" + number.to_bytes(11, "big")
