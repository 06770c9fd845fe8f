"""What crosses from the agent's machine into the judge's: a tar in, a smaller and plainer tar out.

Every byte of the tar that comes in is an agent's. Nothing is unpacked on the host; entries are copied one by one, with
modes, owners and links made harmless. What does not fit is dropped and named, or ends the judgement.

Source: the filter follows the "data" filter of Python's tarfile (PEP 706), and is stricter with links.
"""

from __future__ import annotations

import fnmatch
import io
import posixpath
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LIMIT_BYTES = 64 * 1024 * 1024
LIMIT_ENTRIES = 40_000
# What tarfile raises for damage: times that no clock shows overflow, names that name names recurse.
_DAMAGE = (tarfile.TarError, OSError, OverflowError, RecursionError, ValueError)


class BadArtifact(ValueError):
    """An artifact cannot cross; this is the agent's doing."""


@dataclass(frozen=True)
class Filtered:
    """A tar that may be unpacked, with names relative to `/`, and what was left out of it."""

    tar: bytes
    dropped: tuple[str, ...] = ()


def filtered(archives: Iterable[tuple[str, bytes | None]]) -> Filtered:
    """Return one tar of all declared paths.

    Args:
        archives: (declared absolute path, its tar as the sandbox gave it, None where nothing is there).

    Raises:
        BadArtifact: Too many bytes or entries, a name that leads elsewhere, or damage.
    """
    made, dropped, budget = io.BytesIO(), list[str](), _Budget()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as out:
        for path, archive in archives:
            if archive is not None:
                dropped += _copy(path, archive, out, budget)
    return Filtered(made.getvalue(), tuple(dropped))


def without(archive: bytes, patterns: tuple[str, ...]) -> bytes:
    """Return the tar without the entries below its first name that match one of the shell patterns."""
    made = io.BytesIO()
    try:
        with (
            tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar,
            tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as out,
        ):
            for entry in tar:
                below = entry.name.partition("/")[2]
                parts = below.split("/")
                tails = ("/".join(parts[: n + 1]) for n in range(len(parts)))
                if not below or not any(fnmatch.fnmatch(t, p) for t in (*tails, *parts) for p in patterns):
                    out.addfile(entry, tar.extractfile(entry) if entry.isreg() else None)
    except _DAMAGE as error:
        raise BadArtifact(f"an archive is damaged: {error}") from error
    return made.getvalue()


class _Budget:
    def __init__(self) -> None:
        self.bytes, self.entries = LIMIT_BYTES, LIMIT_ENTRIES

    def take(self, size: int) -> None:
        self.bytes -= size
        self.entries -= 1
        if self.bytes < 0 or self.entries < 0:
            raise BadArtifact(f"more than {LIMIT_BYTES} bytes or {LIMIT_ENTRIES} files")


def _copy(path: str, archive: bytes, out: tarfile.TarFile, budget: _Budget) -> list[str]:
    root, dropped, links, kept = posixpath.normpath(path), list[str](), set[str](), set[str]()
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar:
            for entry in tar:
                place = _place(root, entry.name)
                if any(place.startswith(f"{link}/") for link in links):
                    raise BadArtifact(f"{place!r} lies below a link")
                budget.take(entry.size if entry.isreg() else 0)
                copied = _plain(entry, place, root, kept)
                if copied is None:
                    dropped.append(place)
                    continue
                if copied.issym():
                    links.add(place)
                kept.add(place)
                out.addfile(copied, tar.extractfile(entry) if entry.isreg() else None)
    except _DAMAGE as error:
        if isinstance(error, BadArtifact):
            raise
        raise BadArtifact(f"the archive of {path} is damaged: {error}") from error
    return dropped


def _place(root: str, name: str) -> str:
    """Absolute place of an entry; names start with the declared path's last component."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise BadArtifact(f"an entry is named {name!r}")
    if not parts or parts[0] != posixpath.basename(root):
        raise BadArtifact(f"an entry named {name!r} is not below {root}")
    return posixpath.join(posixpath.dirname(root), *parts)


def _plain(entry: tarfile.TarInfo, place: str, root: str, kept: set[str]) -> tarfile.TarInfo | None:
    """The entry without anything but its kind, its bytes and nine mode bits; None where it may not cross."""
    made = tarfile.TarInfo(place.lstrip("/"))
    made.mode = entry.mode & 0o777
    made.mtime = min(max(0, int(entry.mtime)), 2**33 - 1)
    if entry.isreg():
        made.size = entry.size
    elif entry.isdir():
        made.type = tarfile.DIRTYPE
    elif entry.issym():
        # A link at the declared path itself would hand over whatever it points to, and so would one that leads out.
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), entry.linkname))
        if place == root or entry.linkname.startswith("/") or not target.startswith(f"{root}/"):
            return None
        made.type, made.linkname = tarfile.SYMTYPE, entry.linkname
    elif entry.islnk():
        target = _place(root, entry.linkname)
        if target not in kept:
            return None
        made.type, made.linkname = tarfile.LNKTYPE, target.lstrip("/")
    else:
        return None
    return made


def pack_tests(folder: Path, *, own_conftest: bool) -> bytes:
    """Return a tar of the tests folder: files 0600, folders 0700, owner root, no links, no caches."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            skipped = (
                "__pycache__" in path.parts
                or path.is_symlink()
                or (path.name == "conftest.py" and not own_conftest)
            )
            if skipped or not (path.is_file() or path.is_dir()):
                continue
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            if path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o700
                tar.addfile(entry)
            else:
                body = path.read_bytes()
                entry.mode, entry.size = 0o600 | (path.stat().st_mode & 0o100), len(body)
                tar.addfile(entry, io.BytesIO(body))
    return made.getvalue()
