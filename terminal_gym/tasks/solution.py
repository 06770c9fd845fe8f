"""What the oracle plays: a script, or keystrokes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Keystrokes:
    """One entry of a solution.yaml; source: Terminal-Bench 1.0."""

    command: str
    append_enter: bool = True
    block: bool = False  # wait until the shell is back at its prompt
    min_timeout_s: float = 0.0  # wait at least this long
    max_timeout_s: float = 180.0  # wait at most this long


@dataclass(frozen=True)
class Solution:
    """A reference (or partial) solution: a script, or keystrokes for the terminal.

    Exactly one of the two is set.
    """

    script: str | None = None
    keystrokes: tuple[Keystrokes, ...] = ()
    folder: Path | None = None  # holds the script and the files that it needs; seen at /solution or /oracle
    env: Mapping[str, str] = field(default_factory=dict)  # of the script
