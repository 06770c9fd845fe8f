"""An archive of a stranger's → a plain folder: regular files, folders, and links that stay inside.

Every archive becomes a tar named `src/…`, goes through the filter that artifacts go through, and only then touches the
disk. A name that leads elsewhere ends it; links that lead out and devices are left out and named.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from env_registry.pipeline.stage import Rejected
from terminal_gym.validation.artifacts import BadArtifact, filtered

_CHUNK = 1 << 20


def unpack(data: bytes, folder: Path, *, limit_bytes: int, limit_files: int) -> tuple[str, ...]:
    """Unpack an archive into `folder`, made anew, without its top folder; returns what was left out.

    Raises:
        Rejected: "unreadable", "unsafe", "too-large", "too-many-files" or "empty".
    """
    try:
        tar = _zip_as_tar(data, limit_bytes) if data[:4] == b"PK\3\4" else _inflated(data, limit_bytes)
        plain = filtered([("/src", _renamed(tar, limit_bytes, limit_files))])
    except BadArtifact as error:
        raise Rejected("unsafe", str(error)) from error
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise Rejected("unreadable", f"{type(error).__name__}: {error}") from error
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(plain.tar), mode="r:") as archive:
        archive.extractall(folder, members=_below(archive), filter="data")
    if not any(path.is_file() for path in folder.rglob("*")):
        raise Rejected("empty", "no file is in it")
    return plain.dropped


def _below(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for entry in archive:
        name = entry.name.removeprefix("src/")
        if entry.name.startswith("src/") and name:
            link = entry.linkname.removeprefix("src/") if entry.islnk() else entry.linkname
            yield entry.replace(name=name, linkname=link, deep=False)


def _inflated(data: bytes, limit: int) -> bytes:
    """The tar in it, however it is compressed; refused where it grows beyond four times the limit."""
    openers: dict[bytes, Callable[..., Any]] = {
        b"\x1f\x8b": gzip.open,
        b"\xfd7": lzma.open,
        b"BZ": bz2.open,
    }
    opener = openers.get(data[:2])
    if opener is None:
        return data
    with opener(io.BytesIO(data)) as stream:
        out = stream.read(limit * 4 + 1)
    if len(out) > limit * 4:
        raise Rejected("too-large", f"more than {limit * 4} bytes when unpacked")
    return bytes(out)


def _zip_as_tar(data: bytes, limit: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, tarfile.open(fileobj=made, mode="w") as tar:
        if sum(one.file_size for one in archive.infolist()) > limit * 4:
            raise Rejected("too-large", f"more than {limit * 4} bytes when unpacked")
        for one in archive.infolist():
            entry = tarfile.TarInfo(one.filename)
            if one.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            else:
                body = archive.read(one)
                entry.size, entry.mode = len(body), 0o755 if one.external_attr >> 16 & 0o100 else 0o644
                tar.addfile(entry, io.BytesIO(body))
    return made.getvalue()


def _renamed(tar: bytes, limit_bytes: int, limit_files: int) -> bytes:
    """The same tar with `src` for its one top folder, or with everything below a `src`."""
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:", errors="surrogateescape") as archive:
        entries = [entry for entry in archive if _parts(entry.name)]
        if len(entries) > limit_files:
            raise Rejected("too-many-files", f"{len(entries)} entries")
        if (size := sum(entry.size for entry in entries if entry.isreg())) > limit_bytes * 4:
            raise Rejected(
                "too-large", f"{size} bytes when unpacked"
            )  # sparse files are more than their archive
        tops = {_parts(entry.name)[0] for entry in entries}
        one_top = len(tops) == 1 and any(len(_parts(entry.name)) > 1 for entry in entries)

        def moved(name: str) -> str:
            if name.startswith("/") or ".." in name.split("/"):
                return name  # the filter refuses it
            parts = _parts(name)
            return "/".join(["src", *(parts[1:] if one_top else parts)])

        with tarfile.open(fileobj=made, mode="w", errors="surrogateescape", format=tarfile.GNU_FORMAT) as out:
            for entry in entries:
                link = moved(entry.linkname) if entry.islnk() else entry.linkname
                body = archive.extractfile(entry) if entry.isreg() else None
                out.addfile(entry.replace(name=moved(entry.name), linkname=link, deep=False), body)
    return made.getvalue()


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]
