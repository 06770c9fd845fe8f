"""The teacher: knows the reference solution of each task, and says one command of it a turn, as the student will.

It is recognised by the instruction which task is asked for, so it speaks through the same agent, the same protocol and
the same sandboxes as the student. It may be made to err: then a share of its episodes holds one mistake.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.learning.server import Said
from terminal_gym.errors import BadSetting
from terminal_gym.llm.reply import SUBMIT
from terminal_gym.tasks.manifest import read_manifest
from terminal_gym.tasks.task import Task

_NUMBER = re.compile(r"\d{4}")


class Teacher:
    """Speaks for every task of a manifest.

    Args:
        manifest: Tasks whose reference solutions are keystrokes, with instructions that differ.
        errs: Share of its episodes in which it makes a mistake.
        seed: Of its mistakes.

    Raises:
        BadSetting: A task has no such solution, or shares its instruction.
    """

    context_tokens = 1 << 20

    def __init__(self, manifest: Path, *, errs: float = 0.0, seed: int = 0):
        self._commands: dict[str, tuple[str, ...]] = {}
        for task in read_manifest(manifest).tasks():
            if task.instruction.strip() in self._commands:
                raise BadSetting(f"{task.ref} has the instruction of another task: {task.instruction!r}.")
            self._commands[task.instruction.strip()] = commands_of(task)
        self._errs, self._rng, self._mutex = errs, random.Random(seed), threading.Lock()
        self._spoiled: dict[str, tuple[str, ...]] = {}  # what it says next, by the conversation so far

    def say(self, messages: Sequence[dict[str, str]], *, temperature: float, max_tokens: int) -> Said:
        """Return the next command of the task, else the word that ends the episode."""
        plan = self._commands[messages[0]["content"].strip()]
        said = [message["content"] for message in messages if message["role"] == "assistant"]
        with self._mutex:
            if not said and self._rng.random() < self._errs:
                plan = spoiled(plan, self._rng)
            elif said:
                plan = self._spoiled.get(_key(messages[0], said), plan)
            text = spoken(plan[len(said)] if len(said) < len(plan) else SUBMIT)
            self._spoiled[_key(messages[0], [*said, text])] = plan
        return Said(text)


def _key(first: dict[str, str], said: Sequence[str]) -> str:
    return "\0".join([first["content"], *said])


def commands_of(task: Task) -> tuple[str, ...]:
    """Return what the reference solution types, one command an entry."""
    if task.solution is None or not task.solution.keystrokes:
        raise BadSetting(f"{task.ref} has no solution.yaml, which the teacher speaks from.")
    return tuple(entry.command for entry in task.solution.keystrokes)


def spoken(command: str) -> str:
    """Return the command as the agent `bash` reads it."""
    return f"```bash\n{command}\n```"


def spoiled(commands: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    """Return the solution with one mistake: a number that is read wrongly, or an early end.

    It goes no further than its mistake: what would be shown next it has not seen, and it shall not teach to guess.
    """
    ways: tuple[Callable[[Sequence[str], random.Random], list[str]], ...] = (_misread, _given_up)
    while True:
        wrong = tuple(rng.choice(ways)(commands, rng))
        if wrong != tuple(commands):
            return wrong


def _misread(commands: Sequence[str], rng: random.Random) -> list[str]:
    """A number is read wrongly in one digit; it ends where that number is first used."""
    numbers = sorted({number for command in commands for number in _NUMBER.findall(command)})
    if not numbers:
        return list(commands)
    number, at = rng.choice(numbers), rng.randrange(4)
    other = number[:at] + rng.choice("123456789") + number[at + 1 :]
    last = next(at for at, command in enumerate(commands) if number in command)
    return [command.replace(number, other) for command in commands[: last + 1]]


def _given_up(commands: Sequence[str], rng: random.Random) -> list[str]:
    return list(commands[: rng.randrange(1, len(commands))])
