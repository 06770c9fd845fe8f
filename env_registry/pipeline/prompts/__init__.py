"""The texts that the pipeline asks models with, one file each; a changed text gets a new number in its name."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files


def text(name: str) -> str:
    """Return the text of that name, with `{…}` where `filled` puts something in."""
    return files(__name__).joinpath(f"{name}.txt").read_text("utf-8")


def filled(name: str, /, **cells: str) -> str:
    """Return the text with each `{key}` replaced, in one pass: what is put in is not looked at again."""
    return re.sub("|".join(rf"{{{key}}}" for key in cells), lambda found: cells[found[0][1:-1]], text(name))


def version(name: str) -> str:
    """Return the name with twelve digits of a hash over the text, as it goes into records."""
    return f"{name}:{hashlib.sha256(text(name).encode()).hexdigest()[:12]}"
