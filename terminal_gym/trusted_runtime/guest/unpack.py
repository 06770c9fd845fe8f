"""Unpacks the judge's two archives: tests into their folder, artifacts over the root.

Both come from the host, the second one filtered there; its names are checked again, for they were an agent's.
"""

from __future__ import annotations

import binascii
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator


class BadArchive(Exception):
    """The archive is damaged, or has an entry that would land elsewhere."""


def unpack(line: bytes, root: str, *, owner: int | None = None) -> None:
    """Unpack base64 of a tar below `root`; a line without content is an empty archive.

    Regular files, folders, symbolic and hard links; links are made, never followed. What is in the way of an
    entry of another kind is removed.

    Args:
        owner: Uid and gid of what is unpacked; None: the caller's.

    Raises:
        BadArchive: See above.
        OSError: No room, or the image has something in the way that cannot be removed.
    """
    if not line.strip():
        return
    links: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(binascii.a2b_base64(line)), mode="r:") as archive:
            for entry in archive:
                name = _checked(entry.name, links)
                if name:
                    _make(archive, entry, root, name, owner)
                    if entry.issym():
                        links.add(name)
    except (tarfile.TarError, binascii.Error, OverflowError, RecursionError, ValueError) as error:
        raise BadArchive(f"{type(error).__name__}: {error}") from error


def clear(paths: list[str], root: str = "/") -> None:
    """Remove what the image has at these absolute paths, so that what an agent deleted does not come back.

    Raises:
        BadArchive: A path is the root itself or leads out of it.
    """
    for path in paths:
        name = _checked(path.removeprefix("/"), set())
        if not name:
            raise BadArchive(f"{path!r} cannot be removed")
        _clear(f"{root.rstrip('/')}/{name}", keep_folder=False)


def _checked(name: str, links: set[str]) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise BadArchive(f"name {name!r}")
    if any("/".join(parts[:length]) in links for length in range(1, len(parts))):
        raise BadArchive(f"{name!r} lies below a link of the same archive")
    return "/".join(parts)


def _make(archive: tarfile.TarFile, entry: tarfile.TarInfo, root: str, name: str, owner: int | None) -> None:
    path = f"{root.rstrip('/')}/{name}"
    for folder in _missing_parents(path):
        os.mkdir(folder, 0o755)
        _own(folder, owner)
    _clear(path, keep_folder=entry.isdir())
    if entry.isdir():
        os.makedirs(path, exist_ok=True)
    elif entry.issym():
        os.symlink(entry.linkname, path)
    elif entry.islnk():
        os.link(f"{root.rstrip('/')}/{_checked(entry.linkname, set())}", path, follow_symlinks=False)
        return
    elif entry.isreg():
        _write(archive, entry, path)
    else:
        raise BadArchive(f"{name!r} is a device or a FIFO")
    _own(path, owner)
    if not entry.issym():
        os.chmod(path, entry.mode & 0o777)
        os.utime(path, (max(0, entry.mtime), max(0, entry.mtime)))


def _missing_parents(path: str) -> Iterator[str]:
    parent = path.rpartition("/")[0]
    if parent and not os.path.isdir(parent):
        yield from _missing_parents(parent)
        _clear(parent, keep_folder=True)
        yield parent


def _clear(path: str, *, keep_folder: bool) -> None:
    try:
        status = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(path)
    elif not keep_folder:
        shutil.rmtree(path)


def _write(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> None:
    source = archive.extractfile(entry)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as target:
        if source is not None:
            shutil.copyfileobj(source, target, 1 << 20)


def _own(path: str, owner: int | None) -> None:
    if owner is not None:
        try:
            os.chown(path, owner, owner, follow_symlinks=False)
        except OSError:  # one mapped uid: it is the caller's then, who is also who reads it
            pass
