"""The server of an OpenEnv environment whose action is a shell command. Runs inside the peers' image."""

from __future__ import annotations

import subprocess
from typing import Any

import uvicorn
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State


class Command(Action):  # type: ignore[misc]  # read as Any by the type checker
    """A command for bash."""

    command: str


class Printed(Observation):  # type: ignore[misc]
    """What it printed, and how it ended."""

    output: str = ""
    exit_code: int = 0


class Shell(Environment):  # type: ignore[misc]
    """One bash process for each command."""

    def __init__(self) -> None:
        super().__init__()
        self._state = State(step_count=0)

    def reset(self, **_: Any) -> Printed:
        """Begin; there is nothing to undo in a container of its own."""
        self._state = State(step_count=0)
        return Printed()

    def step(self, action: Command, **_: Any) -> Printed:
        """Return what the command printed."""
        self._state.step_count += 1
        ran = subprocess.run(
            ["bash", "-c", action.command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Printed(output=ran.stdout, exit_code=ran.returncode)

    @property
    def state(self) -> State:
        """How many steps there were."""
        return self._state


if __name__ == "__main__":
    uvicorn.run(create_app(Shell, Command, Printed, env_name="shell"), host="0.0.0.0", port=8000)
