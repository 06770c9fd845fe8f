"""Plays a fixed list of actions, then submits; used by tests and benchmarks.

A script file is a JSON or YAML list. An entry is a string, typed as it is, or a mapping with one of `text` (typed as
it is), `keys` (a list of key names and texts, as in tmux) and `command` (bash codec), and optionally `wait_s` and
`submit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.marked_yaml import Block, read_entries
from terminal_gym.tasks.task import Task
from terminal_gym.terminal.keys import encode
from terminal_gym.trajectory.record import Action, Observation


class Scripted:
    """Plays `actions` in each episode from the first on, whatever it sees."""

    name = "scripted"

    def __init__(self, actions: Sequence[Action]):
        self._actions = tuple(actions)
        self._left: Iterator[Action] = iter(())

    def begin(self, task: Task) -> None:
        self._left = iter(self._actions)

    def act(self, seen: Observation) -> Action:
        return next(self._left, Action(submit=True))


def from_file(script: Path | str) -> Scripted:
    """Return the agent that plays the script file.

    Raises:
        BadTaskFormat: An entry is no action; names the line.
    """
    return Scripted([action_of(entry) for entry in read_entries(Path(script))])


def action_of(entry: Block | str) -> Action:
    """Return the action of one entry.

    Raises:
        BadTaskFormat: It is none; names the line.
    """
    if isinstance(entry, str):
        return Action(keys=(entry.encode(),))
    entry.refuse_unknown(("text", "keys", "command", "wait_s", "submit"))
    said = [key for key in ("text", "keys", "command") if key in entry.values]
    submit = entry.flag("submit", False)
    if len(said) > 1 or not (said or submit or "wait_s" in entry.values):
        raise BadTaskFormat(
            entry.path, f"an action with {said}", "Write one of text, keys, command.", line=entry.line
        )
    keys = (
        (_text(entry),) if said == ["text"] else tuple(encode(key) for key in entry.texts("keys", twice=True))
    )
    return Action(
        keys=keys,
        command=entry.text("command") if said == ["command"] else None,
        wait_s=entry.seconds("wait_s", 0.0) if "wait_s" in entry.values else None,
        submit=submit,
    )


def _text(entry: Block) -> bytes:
    text = entry.values["text"]
    if not isinstance(text, str):
        raise entry.wrong("text", "'text' is not a string", "Put it in quotes.")
    return text.encode()
