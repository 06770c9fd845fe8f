"""What a foreign harness adds to a task: services beside it, scripts that judge it, steps, health checks. Frozen data.

A format that judges with a script of its own has a `ScriptSpec`: its verdict, by that format's rules, is the *parity*
verdict. Ours on the same episode is the *strict* one, and `StrictSpec` says how it is reached.

Source: terminal-bench 0.2.18; Harbor 0.24 (schema 1.0 to 1.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.solution import Solution

Format = Literal["terminal-bench", "terminaltraj", "harbor"]
Parser = Literal["pytest", "swebench", "swelancer", "mlebench", "sweperf", "reward-file"]
PARSERS: tuple[Parser, ...] = (
    "pytest",
    "swebench",
    "swelancer",
    "mlebench",
    "sweperf",
)  # of Terminal-Bench 1.0
Condition = Literal["started", "healthy", "completed"]


@dataclass(frozen=True)
class Healthcheck:
    """A command that must succeed before anybody looks at the machine."""

    command: tuple[str, ...]
    interval_s: float = 5.0
    timeout_s: float = 30.0  # of one try
    start_s: float = 0.0  # failures in this time since the start do not count
    start_interval_s: float = 5.0  # between tries in that time
    retries: int = 3


@dataclass(frozen=True)
class Mount:
    """A named volume that services of one episode share; it ends with the episode."""

    volume: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Service:
    """A machine beside the agent's, on the episode's own network. Nobody types into it."""

    name: str  # also its name on the network
    image: ImageRecipe
    command: tuple[str, ...] | None = None  # None: the image's own
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    aliases: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    healthcheck: Healthcheck | None = None
    needs: tuple[tuple[str, Condition], ...] = ()  # (service, state) waited for before it starts
    init: bool = False


@dataclass(frozen=True)
class Hook:
    """A command run after the agent and before artifacts are read."""

    command: str
    service: str = ""  # "": the agent's machine
    timeout_s: float = 60.0
    user: str = ""


@dataclass(frozen=True)
class Artifact:
    """A path that is kept, and that crosses into a separate verifier at the same place."""

    source: str
    destination: str = ""
    exclude: tuple[str, ...] = ()
    service: str = ""


@dataclass(frozen=True)
class VerifierMachine:
    """A machine of its own for the verifier."""

    image: ImageRecipe
    owns_tests: bool = False  # its image holds /tests: nothing is uploaded
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    cpus: float | None = None
    memory_mb: int | None = None
    network: bool | None = None  # None: as the agent's


@dataclass(frozen=True)
class ScriptSpec:
    """How the format itself judges: a script, and what is read from it."""

    script: str  # absolute path in the sandbox, e.g. /tests/run-tests.sh
    uploads: tuple[Path, ...] = ()  # folders whose content, and files which, go to /tests, in this order
    parser: Parser = "pytest"
    timeout_s: float = 60.0
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""  # who runs it; "": root for Terminal-Bench 1.0, the image's own user for Harbor
    hooks: tuple[Hook, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    machine: VerifierMachine | None = None  # None: the agent's machine


@dataclass(frozen=True)
class StrictSpec:
    """How the strict verdict is reached, and who says that this way is fair to a correct solution."""

    judge: Literal["pytest", "script"] = (
        "pytest"  # trusted pytest on `tests`, or the format's own script, hardened
    )
    calibrated: bool | None = None  # None: the author chose; False: nobody has shown it (no oracle has run)
    note: str = ""  # of the calibration, e.g. why a weaker way was taken


@dataclass(frozen=True)
class TaskStep:
    """One step of a task that is judged in several."""

    name: str
    instruction: str
    script: ScriptSpec
    agent_s: float | None = None  # None: the task's
    workdir: Path | None = (
        None  # folder whose content goes to the working directory first; its setup.sh is run
    )
    healthcheck: Healthcheck | None = None
    min_reward: Mapping[str, float] = field(default_factory=dict)  # reward key → what ends the task if missed
    solution: Solution | None = None


Strategy = Literal["mean", "final"]
