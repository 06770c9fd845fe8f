"""What a scripted model server says, so that `terminus` solves tasks: the keys of the reference solution, a turn each.

Which attempts it gives up on is decided by the seed of an attempt's first request, and said in the reply, so that the
requests after it are answered alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from kit.chat_server import Request, Said

from terminal_gym.agents.oracle import oracle
from terminal_gym.tasks.task import Task

SOLVES, GIVES_UP = "I know how.", "I give up."


class ScriptedPlayer:
    """A script for `ChatServer`: solves each of `tasks`, but for one attempt in four."""

    def __init__(self, tasks: Iterable[Task]):
        self._turns: dict[str, list[str]] = {}
        for task in tasks:
            player = oracle()
            player.begin(task)
            moves = [
                {"keystrokes": move.keys.decode(), "duration": min(60.0, move.wait_s)}
                for move in player._moves
            ]
            self._turns[task.instruction.strip()] = [_reply(SOLVES, [move]) for move in moves]

    def __call__(self, request: Request) -> Said:
        said = [message["content"] for message in request["messages"] if message["role"] == "assistant"]
        gives_up = GIVES_UP in said[0] if said else request["seed"] % 4 == 0
        if gives_up:
            return Said(_reply(GIVES_UP, [], done=True))
        asked = request["messages"][0]["content"]
        turns = next(turns for task, turns in self._turns.items() if task in asked)
        return Said(turns[len(said)] if len(said) < len(turns) else _reply(SOLVES, [], done=True))


def _reply(analysis: str, commands: list[dict[str, object]], *, done: bool = False) -> str:
    return json.dumps({"analysis": analysis, "plan": "", "commands": commands, "task_complete": done})
