"""What an instance of a grounded template is drawn from, and what is drawn."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

ANSWER = "/app/answer"
WORD = re.compile(r"\b[A-Za-z_][A-Za-z0-9_]{4,}\b")


@dataclass(frozen=True)
class Tree:
    """What an instance may ask about."""

    name: str
    texts: Mapping[
        str, str
    ]  # path relative to /app → text: files that the build left as they came, printable ASCII
    others: frozenset[str]  # every other regular file, relative to /app
    products: tuple[str, ...]  # ELF files that the build made, relative to /app, sorted


@dataclass(frozen=True)
class Drawn:
    """One task, before it is written."""

    family: str
    instruction: str
    outputs: Mapping[str, str]  # absolute path → the text that it must hold
    solution: str
    partial: str
    inputs: tuple[str, ...]  # absolute paths that it reads
    files: Mapping[str, str] = field(default_factory=dict)  # relative to /app, laid over the image
    difficulty: str = "easy"
    domain: str = "text"
    is_exact: bool = False  # byte for byte; else line for line


Family = Callable[[Tree, random.Random], Drawn | None]


def folders(tree: Tree, *, least: int) -> dict[tuple[str, str], list[str]]:
    """(folder, suffix) → its files at any depth, where there are between `least` and 60 and all of them are texts."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(tree.texts):
        for key in _keys(path):
            found.setdefault(key, []).append(path)
    strange = {key for path in tree.others for key in _keys(path)}
    return {key: paths for key, paths in found.items() if least <= len(paths) <= 60 and key not in strange}


def _keys(path: str) -> list[tuple[str, str]]:
    suffix = PurePosixPath(path).suffix
    return [(str(folder), suffix) for folder in PurePosixPath(path).parents if suffix and str(folder) != "."]


def newlines(text: str) -> int:
    return text.count("\n")


def pick(rng: random.Random, found: Mapping[tuple[str, str], object]) -> tuple[str, str] | None:
    return rng.choice(sorted(found)) if found else None


def written(
    family: str,
    instruction: str,
    out: str,
    lines: Sequence[str],
    command: str,
    inputs: Sequence[str],
    *,
    difficulty: str = "easy",
    domain: str = "text",
    files: Mapping[str, str] | None = None,
) -> Drawn | None:
    """Return a task whose one output has these lines, which `command` prints in /app; None where they are too few.

    The partial solution leaves the last line out.
    """
    if not 2 <= len(lines) <= 400:
        return None
    run = f"cd /app\nmkdir -p answer\n{{ {command}; }}"
    return Drawn(
        family,
        f"{instruction} Write it to {ANSWER}/{out}.",
        {f"{ANSWER}/{out}": "".join(f"{line}\n" for line in lines)},
        f"{run} > answer/{out}\n",
        f"{run} | sed '$d' > answer/{out}\n",
        tuple(f"/app/{path}" for path in inputs),
        files or {},
        difficulty,
        domain,
    )
