"""Stage 1: sources → candidates. Fetched, unpacked, and let in by size, licence, language and newness.

WORK/sources/<slug>/ holds what was let in, as it came. Rejections: unfetchable, no-source, too-large, too-many-files,
unreadable, unsafe, empty, binary, licence, language, near-copy.

Near copies are found by MinHash over shingles of five lines, 128 permutations (Broder 1997; the library is datasketch).
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasketch import MinHash, MinHashLSH

from env_registry.pipeline.facts import TextFile, main_language, text_files
from env_registry.pipeline.licences import is_allowed, licence_of
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.sources import fetch
from env_registry.pipeline.stage import Rejected, Table
from env_registry.pipeline.unpack import unpack

_PERMUTATIONS, _SHINGLE = 128, 5
_SCHEME = "affine32"  # of datasketch: signatures made otherwise cannot be compared


def slug(key: str) -> str:
    """Return a name for folders, images and task ids; different keys never share one.

    >>> slug("pypi:six")
    'pypi-six-2a7dd7'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")[-40:].strip("-")
    return f"{plain}-{hashlib.sha256(key.encode()).hexdigest()[:6]}"


class Collector:
    """Lets sources in; safe to use from many threads.

    Args:
        settings: Of the pipeline.
        table: What was let in before; its signatures are compared with.
    """

    def __init__(self, settings: Settings, table: Table):
        self._settings, self._mutex = settings, threading.Lock()
        most = settings.collect.near_copy
        self._known = MinHashLSH(threshold=most, num_perm=_PERMUTATIONS) if most <= 1 else None
        for row in table.kept:
            self._claim(row.key, _signature_read(str(row.cells["minhash"])))

    def __call__(self, key: str) -> Mapping[str, Any]:
        """Return the cells of one source that is let in; raises Rejected for one that is not."""
        wanted = self._settings.collect
        limit = wanted.size_mb << 20
        fetched = fetch(key, folder=self._settings.folder, limit_bytes=limit, timeout_s=wanted.timeout_s)
        folder = self._settings.work / "sources" / slug(key)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            left_out = unpack(fetched.data, folder, limit_bytes=limit, limit_files=wanted.files)
            cells = self._described(key, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        archive = hashlib.sha256(fetched.data).hexdigest()
        return {
            "version": fetched.version,
            "archive_sha256": archive,
            "left_out": list(left_out)[:20],
            **({"stars": self._settings.stars[key]} if key in self._settings.stars else {}),
            **cells,
        }

    def _described(self, key: str, folder: Path) -> dict[str, Any]:
        wanted, files = self._settings.collect, list(text_files(folder))
        if not files:
            raise Rejected("binary", "no text file is in it")
        language = main_language(files)
        licence, where = licence_of(folder)
        if wanted.languages and language not in wanted.languages:
            raise Rejected("language", language or "none of the eight", licence=licence)
        if wanted.licences and not (licence and is_allowed(licence, wanted.licences)):
            raise Rejected("licence", licence or "none was found", language=language)
        signature = _signature(files)
        if copy := self._claim(key, signature):
            raise Rejected("near-copy", copy, language=language)
        return {
            "folder": f"sources/{folder.name}",
            "licence": licence,
            "licence_file": where,
            "language": language,
            "files": len(files),
            "bytes": sum(len(file.text) for file in files),
            "encodings": sorted({file.encoding for file in files}),
            "minhash": signature.hashvalues.astype("<u4").tobytes().hex(),
        }

    def _claim(self, key: str, signature: MinHash) -> str:
        """The key of an earlier near copy, "" where this is the first of its kind."""
        if self._known is None:
            return ""
        with self._mutex:
            near = sorted(self._known.query(signature))
            if near and key not in near:
                return str(near[0])
            if not near:
                self._known.insert(key, signature)
        return ""


def _signature(files: list[TextFile]) -> MinHash:
    made = MinHash(num_perm=_PERMUTATIONS, scheme=_SCHEME)
    made.update_batch(sorted(set(_shingles(files))))
    return made


def _shingles(files: list[TextFile]) -> Iterator[bytes]:
    for file in files:
        lines = [line.strip() for line in file.text.splitlines() if line.strip()]
        for at in range(max(1, len(lines) - _SHINGLE + 1)):
            yield "\n".join(lines[at : at + _SHINGLE]).encode("utf-8", "replace")


def _signature_read(text: str) -> MinHash:
    import numpy

    values = numpy.frombuffer(bytes.fromhex(text), "<u4").astype("u8")
    return MinHash(num_perm=_PERMUTATIONS, hashvalues=values, scheme=_SCHEME)
