"""The texts that agents send, one file each. A changed text changes `version()`, which each trajectory keeps."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib.resources import files


@functools.cache
def text(name: str) -> str:
    """Return the text of that name, with `{…}` where `filled` puts something in."""
    return files(__name__).joinpath(f"{name}.txt").read_text("utf-8")


def filled(name: str, **cells: str) -> str:
    """Return the text with each `{key}` replaced, in one pass: what is put in is not looked at again."""
    return re.sub("|".join(rf"{{{key}}}" for key in cells), lambda found: cells[found[0][1:-1]], text(name))


@functools.cache
def version() -> str:
    """Return the first twelve digits of a hash over every text."""
    names = sorted(entry.name for entry in files(__name__).iterdir() if entry.name.endswith(".txt"))
    return hashlib.sha256("\0".join(name + text(name[:-4]) for name in names).encode()).hexdigest()[:12]
