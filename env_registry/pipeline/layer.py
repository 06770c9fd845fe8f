"""What a sandbox wrote above its image, as tars that are laid over that image again.

Read from a sandbox that is stopped. Names and links are a stranger's: what leads out is left out, and devices are.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from terminal_gym.errors import OversizedArchive
from terminal_gym.sandbox.base import Sandbox

# /app has a tar of its own; the rest is the machine's, or ours.
_NOT = ("app", "dev", "proc", "sys", "run", "tmp", "tg", "tgym-build", ".dockerenv")
_NOT_FILES = ("etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab")
_FEW, _DEEP = (
    16,
    3,
)  # a folder this deep in which more than so many paths changed is read whole, whatever its size
_PATHS = 200_000
_SMALL = 1 << 20  # a folder up to this size is read whole, so that its owner and mode come too
Tree = dict[str, "Tree"]


def written(sandbox: Sandbox, into: Path, *, limit_bytes: int) -> tuple[str, ...]:
    """Write a tar of what was added and changed outside /app; returns the paths that are no longer there.

    Raises:
        OversizedArchive: It is larger than that.
    """
    changed = {path.lstrip("/") for path in sandbox.changed_paths(limit=_PATHS)}
    if len(changed) >= _PATHS:
        raise OversizedArchive(f"{_PATHS} paths or more changed in {sandbox.name}")
    changed = {path for path in changed if path.split("/")[0] not in _NOT and path not in _NOT_FILES}
    tree: Tree = {}
    for path in sorted(changed):
        at = tree
        for part in path.split("/"):
            at = at.setdefault(part, {})
    seen, total = set[str](), 0
    with tarfile.open(into, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as out:
        for parent, archive in _read(sandbox, tree, "", 4 * limit_bytes):
            for entry, body in _below(archive, parent):
                if entry.name not in changed or entry.name in seen:
                    continue
                if entry.islnk() and entry.linkname not in seen:  # to what stays out: a file of its own
                    content = body.read() if body is not None else b""
                    entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", len(content)
                    body = io.BytesIO(content)
                seen.add(entry.name)
                if (total := total + entry.size) > limit_bytes:
                    raise OversizedArchive(f"more than {limit_bytes} bytes were written to {sandbox.name}")
                out.addfile(entry, body if entry.isreg() else None)
    # A folder of which only the content was read is there, though not seen.
    kept = seen | {place.as_posix() for path in seen for place in PurePosixPath(path).parents}
    gone = changed - kept
    return tuple(
        f"/{path}"
        for path in sorted(gone)
        if not any(place.as_posix() in gone for place in PurePosixPath(path).parents)
    )


def _read(sandbox: Sandbox, tree: Tree, path: str, limit_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield (parent folder, tar) so that every changed path comes, and as little else as may be."""
    for name, below in tree.items():
        place = f"{path}/{name}" if path else name
        many = not below or (place.count("/") + 1 >= _DEEP and _count(below) > _FEW)
        try:
            archive = sandbox.read_archive(f"/{place}", limit_bytes=limit_bytes if many else _SMALL)
            yield path, archive or b""
        except OversizedArchive:
            if many:
                raise
            yield from _read(sandbox, below, place, limit_bytes)


def _count(tree: Tree) -> int:
    return sum(1 + _count(below) for below in tree.values())


def _below(archive: bytes, parent: str) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The entries of a tar under the names that they have from the root on."""
    if not archive:
        return
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar:
        for entry in tar:
            parts = entry.name.strip("/").split("/")
            if ".." in parts or not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
                continue
            if entry.islnk() and ".." in entry.linkname.split("/"):
                continue
            body = _content(tar, entry)
            entry.name = "/".join([*parent.split("/"), *parts]).lstrip("/")
            if entry.islnk():
                entry.linkname = "/".join([*parent.split("/"), entry.linkname.strip("/")]).lstrip("/")
            entry.uname = entry.gname = ""
            entry.mtime = 0
            entry.pax_headers = {}
            yield entry, body


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes] | None:
    try:
        return tar.extractfile(entry) if entry.isreg() or entry.islnk() else None
    except KeyError:  # a hard link to what is not in this archive
        return None


def plain(archive: bytes) -> bytes:
    """What a build left in /app, made root's, without devices, set-user bits and whatever leads elsewhere."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as out:
        _add_plain(archive, out)
    return made.getvalue()


def with_repository(archive: bytes, folder: Path) -> bytes:
    """The same, and every file of the repository for which nothing stands in its place."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as out:
        taken = _add_plain(archive, out)
        folders = {name for name, is_folder in taken.items() if is_folder}
        for path in [folder, *sorted(folder.rglob("*"))]:
            name = ("app" / path.relative_to(folder)).as_posix()
            above = name.split("/")[:-1]
            if name in taken or not all(
                place in folders for n in range(len(above)) if (place := "/".join(above[: n + 1])) in taken
            ):
                continue
            out.add(path, name, recursive=False, filter=_ours)
    return made.getvalue()


def _add_plain(archive: bytes, out: tarfile.TarFile) -> dict[str, bool]:
    """Names that were added, and whether each is a folder."""
    added: dict[str, bool] = {}
    if not archive:
        return added
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar:
        for entry in tar:
            parts = entry.name.strip("/").split("/")
            if (
                parts[0] != "app"
                or ".." in parts
                or (parts == ["app"] and not entry.isdir())
                or not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk())
            ):
                continue
            body = tar.extractfile(entry) if entry.isreg() else None
            out.addfile(_ours(entry), body)
            added["/".join(parts)] = entry.isdir()
    return added


def _ours(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode &= 0o777
    entry.mtime = 0
    entry.pax_headers = {}
    return entry
