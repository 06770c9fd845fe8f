"""Whether a trajectory shares text with a benchmark: runs of thirteen words, as usual for language models.

It finds copies, not paraphrases. Source: Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from terminal_gym.errors import BadSetting
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.manifest import open_manifest
from terminal_gym.tasks.task import Task

GRAM = 13
_WORD = re.compile(r"\w+")


class Benchmark:
    """The word runs of a benchmark's tasks: instructions, solutions and tests."""

    def __init__(self, texts: Iterable[tuple[str, str]], *, size: int = GRAM):
        """Take (task name, text) pairs; a text of fewer than `size` words counts as a whole."""
        self._size = size
        self._owner: dict[int, str] = {}
        self._short: dict[str, str] = {}
        for name, text in texts:
            words = _words(text)
            if 0 < len(words) < size:
                self._short.setdefault(" ".join(words), name)
            for gram in _grams(words, size):
                self._owner.setdefault(gram, name)

    def __len__(self) -> int:
        """Return how many word runs are known."""
        return len(self._owner) + len(self._short)

    def shared_with(self, instruction: str, *more: str) -> str:
        """Return the name of a task that shares a run of words with one of these texts, "" where none does.

        A short task of the benchmark is compared with `instruction` as a whole.
        """
        for text in (instruction, *more):
            for gram in _grams(_words(text), self._size):
                if gram in self._owner:
                    return self._owner[gram]
        return self._short.get(" ".join(_words(instruction)), "")


def open_benchmarks(places: Iterable[Path]) -> Benchmark:
    """Return the word runs of benchmark task sets: each a manifest, or a folder with task folders at any depth.

    Raises:
        BadSetting: A place holds no task.
        TaskError: A task cannot be read.
    """
    return Benchmark(pair for place in places for task in _tasks(place) for pair in _texts(task))


def _tasks(place: Path) -> Iterator[Task]:
    if place.is_file():
        yield from open_manifest(place).tasks()
        return
    folders = sorted(path.parent for name in ("task.yaml", "task.toml") for path in place.rglob(name))
    if not folders:
        raise BadSetting(f"{place} holds no task. Name a manifest, or a folder with task folders.")
    yield from map(read_folder, folders)


def _texts(task: Task) -> Iterator[tuple[str, str]]:
    name = str(task.ref)
    yield name, task.instruction
    if task.solution is not None:
        yield name, task.solution.script or "\n".join(key.command for key in task.solution.keystrokes)
    for path in sorted(task.validator.tests.rglob("*.py")):
        yield name, path.read_text("utf-8", "replace")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: list[str], size: int) -> Iterator[int]:
    """Yield a 64-bit hash of each run: two different runs practically never share one."""
    for at in range(len(words) - size + 1):
        yield hash(tuple(words[at : at + size]))
