"""Context items: domain files and external resources that instances are written from, beside the repositories.

    use: files       text files that are laid into the image at /app/context/NAME; a task must need one of them
    use: reference   shown to the model alone

WORK/context.jsonl holds a row for each, WORK/context/NAME/ its files. Rejections: those of a source (collect.py), and
licence: of what is laid into images, the licence must be told or found, and allowed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from env_registry.pipeline import prompts
from env_registry.pipeline.facts import text_files
from env_registry.pipeline.licences import is_allowed, licence_of
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.sources import fetch
from env_registry.pipeline.stage import Rejected, Row
from env_registry.pipeline.unpack import unpack

FOLDER = "context"  # below /app, and below WORK
_FILES, _BYTES = 50, 1 << 20  # of an item that is laid into images
_SHOWN, _EACH = 6_000, 2_000  # characters that a model is shown: of all files, of one


class ContextCollector:
    """Lets context items in; safe to use from many threads."""

    def __init__(self, settings: Settings):
        self._settings = settings

    def __call__(self, name: str) -> Mapping[str, Any]:
        """Return the cells of one item; raises Rejected for one that is not let in."""
        item, wanted = self._settings.context[name], self._settings.collect
        limit = wanted.size_mb << 20
        fetched = fetch(
            item.source, folder=self._settings.folder, limit_bytes=limit, timeout_s=wanted.timeout_s
        )
        folder = self._settings.work / FOLDER / name
        shutil.rmtree(folder, ignore_errors=True)
        try:
            unpack(fetched.data, folder, limit_bytes=limit, limit_files=wanted.files)
            files = list(text_files(folder))
            size = sum(len(file.text.encode()) for file in files)
            if not files:
                raise Rejected("binary", "no text file is in it")
            licence = item.licence or licence_of(folder)[0]
            if item.use == "files":
                if wanted.licences and not (licence and is_allowed(licence, wanted.licences)):
                    raise Rejected("licence", licence or "none was told or found")
                if len(files) > _FILES or size > _BYTES:
                    found = f"{len(files)} text files of {size} bytes; at most {_FILES} of {_BYTES}"
                    raise Rejected("too-large", found)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return {
            "source": item.source,
            "domain": item.domain,
            "use": item.use,
            "licence": licence,
            "sha256": hashlib.sha256(fetched.data).hexdigest(),
            "files": len(files),
            "bytes": size,
        }


@dataclass(frozen=True)
class Material:
    """What one instance is written from, beside its repository."""

    name: str
    domain: str
    licence: str  # of what is laid into the image, "" where nothing is
    files: Mapping[str, str]  # laid over the image: path relative to /app → text
    asked: str  # for the model
    version: str  # of the texts that it is asked with


def material(work: Path, row: Row) -> Material:
    """Return what a context item gives to an instance."""
    use, folder = str(row.cells["use"]), f"{FOLDER}/{row.key}"
    texts = {f"{folder}/{file.path}": file.text for file in text_files(work / FOLDER / row.key)}
    parts, left = [], _SHOWN
    for path, text in sorted(texts.items()):
        parts.append(f"=== {'/app/' if use == 'files' else ''}{path}\n{text[: min(_EACH, left)]}")
        left -= min(len(text), _EACH)
        if left <= 0:
            break
    told = f"context-{use}-1"
    asked = prompts.filled(
        "context-1",
        domain=str(row.cells["domain"]),
        name=row.key,
        texts="\n".join(parts),
        use=prompts.filled(told, folder=f"/app/{folder}"),
    )
    return Material(
        row.key,
        str(row.cells["domain"]),
        str(row.cells["licence"]) if use == "files" else "",
        texts if use == "files" else {},
        asked,
        f"{prompts.version('context-1')}+{prompts.version(told)}",
    )


def chosen(rows: list[Row], repository: str, number: int) -> Row | None:
    """Return the item for a repository's instance of that number: each repository begins elsewhere, and goes round."""
    if not rows:
        return None
    start = int.from_bytes(hashlib.sha256(repository.encode()).digest()[:4], "big")
    return rows[(start + number) % len(rows)]
