"""What a family draws for one instance, and where its numbers come from. Plain data: no files, no processes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
TENTHS: Mapping[int, Split] = {0: "test", 1: "val"}  # of all numbers; the other eight train


def split_of(number: int) -> Split:
    """Return the one split whose instances may hold this number."""
    return TENTHS.get(hashlib.sha256(str(number).encode()).digest()[0] % 10, "train")


class Numbers:
    """Numbers of four digits from one split, none of them twice in one instance."""

    def __init__(self, rng: random.Random, split: Split):
        self.rng = rng
        self._split = split
        self._used: set[int] = set()

    def one(self) -> str:
        """Return a fresh number."""
        while True:
            number = self.rng.randrange(1000, 10_000)
            if number not in self._used and split_of(number) == self._split:
                self._used.add(number)
                return str(number)

    def several(self, count: int) -> list[str]:
        """Return `count` fresh numbers."""
        return [self.one() for _ in range(count)]


@dataclass(frozen=True)
class Draft:
    """One instance, before it is written. Paths are relative to /app, where the shell begins."""

    instruction: str
    files: Mapping[str, str]  # path → text, put into the image; a text that begins with "#!" is executable
    solution: tuple[
        str, ...
    ]  # one command a turn; what it needs stands in the instruction or in earlier output
    partial: tuple[str, ...]  # does some of the work; must not pass
    wanted: Mapping[str, tuple[str, ...]]  # path → the words that the file must hold in the end
    modes: Mapping[str, int] = field(
        default_factory=dict
    )  # path → permission bits; of `files` too, from the start
    wanted_modes: Mapping[str, int] = field(default_factory=dict)  # path → permission bits in the end


@dataclass(frozen=True)
class Family:
    """A kind of task."""

    name: str
    domain: str
    dependent_turns: int  # commands of the solution, at least, whose text depends on earlier output
    draw: Callable[[Numbers], Draft]
    difficulty: Literal["easy", "medium", "hard"] = "easy"
