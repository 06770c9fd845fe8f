"""Agent: chooses the next action from what is on the screen; and the one place where agents have names."""

from __future__ import annotations

import inspect
import pkgutil
from typing import Protocol, cast

from terminal_gym.errors import BadSetting, UnknownName
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Action, Observation


class Agent(Protocol):
    """Plays one episode after another; knows neither sandbox nor session."""

    @property
    def name(self) -> str:
        """What the trajectory calls it."""
        ...

    def begin(self, task: Task) -> None:
        """A new episode of `task` is about to start; forget the last one.

        Raises:
            BadSetting: The agent cannot play this task.
        """
        ...

    def act(self, seen: Observation) -> Action:
        """Return what to do next; `seen` is the reset's observation first, then each step's."""
        ...


AGENTS = {
    "bash": "terminal_gym.agents.bash:Bash",
    "nop": "terminal_gym.agents.nop:Nop",
    "oracle": "terminal_gym.agents.oracle:oracle",
    "partial": "terminal_gym.agents.oracle:partial",
    "replay": "terminal_gym.agents.replay:Replay",
    "scripted": "terminal_gym.agents.scripted:from_file",
    "terminus": "terminal_gym.agents.terminus:Terminus",
}


def open_agent(name: str, **settings: object) -> Agent:
    """Return the agent of that name; what it names is imported only now.

    Args:
        name: A key of AGENTS.
        settings: What that agent is made with, e.g. `model=` for "terminus" and "bash", `script=` for "scripted".

    Raises:
        UnknownName: No agent has this name.
        BadSetting: The settings are not those of this agent.
    """
    if name not in AGENTS:
        raise UnknownName("agent", name, known=AGENTS)
    maker = pkgutil.resolve_name(AGENTS[name])
    takes = inspect.signature(maker)
    try:
        takes.bind(**settings)
    except TypeError as error:
        wants = ", ".join(map(str, takes.parameters.values())) or "no settings"
        raise BadSetting(f"Agent {name!r} cannot be made so: {error}. It takes: {wants}.") from None
    return cast(Agent, maker(**settings))
