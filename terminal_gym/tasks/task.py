"""What was asked: one frozen task, its limits and its validator, with a content hash."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from terminal_gym.tasks.harness import (
    Condition,
    Format,
    Healthcheck,
    ScriptSpec,
    Service,
    Strategy,
    StrictSpec,
    TaskStep,
)
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.solution import Solution

Mode = Literal["artifacts", "restart", "live"]
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")  # a task's name: what a gymnasium id allows after `/`
MODES: tuple[Mode, ...] = ("artifacts", "restart", "live")


@dataclass(frozen=True, order=True)
class TaskRef:
    """Names one task: `namespace/name`, which is also its gymnasium id."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Limits:
    """What an episode may use; each runtime says in `doctor` which of these it can enforce."""

    agent_s: float = 360.0  # wall-clock seconds from the first prompt to the end of the agent's work
    verifier_s: float = 60.0  # wall-clock seconds for the whole judgement
    steps: int | None = None  # environment steps; None: no limit
    cpus: float = 1.0  # cores
    memory_mb: int = 2048  # MiB, swap included
    pids: int = 256  # processes and threads
    disk_mb: int = 2048  # MiB written above the image
    network: bool = False  # True: the sandbox reaches the network


@dataclass(frozen=True)
class ValidatorSpec:
    """How the final state is judged."""

    tests: Path  # folder copied into the verifier, never into the agent's sandbox before the stop signal
    mode: Mode = "artifacts"
    artifacts: tuple[str, ...] = ()  # absolute paths that cross into the pristine verifier (`artifacts` mode)
    expected: tuple[
        str, ...
    ] = ()  # pytest node ids fixed beforehand; empty: collected once in a pristine sandbox
    tested_code_user: Literal["nobody", "root"] = "nobody"  # who runs what the tests spawn
    own_conftest: bool = False  # load the author's conftest.py from `tests` (never from above it)


@dataclass(frozen=True)
class Task:
    """One task, as asked. Nothing in it has a process behind it."""

    ref: TaskRef
    folder: Path
    instruction: str
    image: ImageRecipe
    validator: ValidatorSpec
    limits: Limits = field(default_factory=Limits)
    solution: Solution | None = None
    partial: Solution | None = None  # a solution that does some of the work and must not pass
    workdir: str | None = None  # None: the image's own
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    metadata: Mapping[str, object] = field(
        default_factory=lambda: MappingProxyType({})
    )  # labels; never interpreted
    format: Format = "terminal-bench"
    script: ScriptSpec | None = None  # how the format itself judges; None: only our validator does
    strict: StrictSpec = field(default_factory=StrictSpec)
    asks_network: bool = False  # whether the format gives its agents the network; `limits.network` decides
    user: str = ""  # who the agent is; "": the image's own user
    service: str = ""  # what other services call the agent's machine
    services: tuple[Service, ...] = ()  # started before it, on a private network
    needs: tuple[tuple[str, Condition], ...] = ()  # services whose state is waited for
    healthcheck: Healthcheck | None = None  # waited for before the agent begins
    uploads: Path | None = None  # folder whose content goes to the working directory before the agent begins
    steps: tuple[
        TaskStep, ...
    ] = ()  # judged one after the other in one machine; (): one step, the task itself
    strategy: Strategy = "mean"  # how the rewards of steps become one

    @property
    def images(self) -> tuple[ImageRecipe, ...]:
        """Every image that an episode and its judgement need, the agent's first."""
        machines = [script.machine for script in self.scripts if script.machine is not None]
        others = [*(service.image for service in self.services), *(machine.image for machine in machines)]
        return tuple({recipe.name: recipe for recipe in (self.image, *others)}.values())

    @property
    def scripts(self) -> tuple[ScriptSpec, ...]:
        """The format's own judges: of the task, or of each step."""
        return tuple(step.script for step in self.steps) or ((self.script,) if self.script else ())

    def at(self, step: int) -> Task:
        """Return the task as it is in one of its steps, from 0; the task itself where it has none.

        Raises:
            IndexError: It has fewer steps.
        """
        if not self.steps:
            return self
        now = self.steps[step]
        agent_s = self.limits.agent_s if now.agent_s is None else now.agent_s
        return replace(
            self,
            instruction=now.instruction,
            script=now.script,
            limits=replace(self.limits, agent_s=agent_s, verifier_s=now.script.timeout_s),
            solution=now.solution or self.solution,
        )

    @property
    def phases(self) -> tuple[Task, ...]:
        """The task as it is in each of its steps; the task itself where it has none."""
        return tuple(self.at(step) for step in range(len(self.steps) or 1))

    @property
    def has_solution(self) -> bool:
        """Whether the oracle can play it to its end: a step without a solution of its own takes the task's."""
        return all(phase.solution is not None for phase in self.phases)

    def granted(self, network: bool) -> Task:
        """Return the task with or without the network, whatever its format asks for."""
        return replace(self, limits=replace(self.limits, network=network))

    def content_hash(self) -> str:
        """Return 64 hex digits over everything that can change a verdict: text, limits, validator, files.

        The folder's place on disk and `metadata` do not count; every file below the build context and the
        tests folder does, by relative name, executable bit and content.
        """
        digest = hashlib.sha256()
        plain = {
            "instruction": self.instruction,
            "limits": asdict(self.limits),
            "validator": {k: v for k, v in asdict(self.validator).items() if k != "tests"},
            "workdir": self.workdir,
            "env": dict(self.env),
        }
        digest.update(json.dumps(plain, sort_keys=True, default=str).encode())
        if self.script is not None or self.services or self.steps:
            digest.update(self._harness().encode())
        digest.update(tree_hash(self.validator.tests).encode())
        if self.image.context is not None:
            digest.update(tree_hash(self.image.context, exclude=self.image.exclude).encode())
        else:
            digest.update(self.image.name.encode())
        return digest.hexdigest()

    def _harness(self) -> str:
        """Everything else that a foreign harness reads; files by content, not by place."""
        rest = (
            self.script,
            self.user,
            self.services,
            self.healthcheck,
            self.uploads,
            self.steps,
            self.strategy,
        )

        def plain(value: object) -> object:
            if isinstance(value, Path):
                return tree_hash(value) if value.is_dir() else hashlib.sha256(value.read_bytes()).hexdigest()
            if isinstance(value, ImageRecipe):
                return value.name
            if is_dataclass(value):
                return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
            if isinstance(value, Mapping):
                return {str(key): plain(cell) for key, cell in value.items()}
            return list(map(plain, value)) if isinstance(value, tuple) else value

        return json.dumps(plain(rest), sort_keys=True)


def tree_hash(folder: Path, *, exclude: tuple[str, ...] = ()) -> str:
    """Return 64 hex digits over the files below `folder`: name, executable bit, content or link target.

    Names directly in `folder` that match a shell pattern of `exclude` do not count, nor do byte-code caches.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        parts = path.relative_to(folder).parts
        if "__pycache__" in parts or is_excluded(parts[0], exclude):
            continue
        if path.is_symlink():
            body, kind = os.fsencode(path.readlink()), "link"
        elif path.is_file():
            body, kind = path.read_bytes(), "exec" if path.stat().st_mode & 0o100 else "file"
        else:
            continue
        digest.update(os.fsencode(f"{kind} {len(name)} {name} {len(body)} ") + body)
    return digest.hexdigest()


def is_excluded(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether the first part of a path relative to the build context stays out of the build."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
