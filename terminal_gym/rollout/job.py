"""A job: what a rollout was asked for, as its run folder keeps it; and what it takes to play it, or to go on."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from terminal_gym.agents import prompts
from terminal_gym.agents.agent import Agent, open_agent
from terminal_gym.errors import BadSetting, ProviderDown
from terminal_gym.llm.chat import ChatModel, Completion, Sampling, Seeded, Tool, open_model
from terminal_gym.rollout.engine import Bounds, Engine, Watcher
from terminal_gym.rollout.images import ImageShelf
from terminal_gym.rollout.place import Here, Place
from terminal_gym.rollout.plan import Attempt, Retries, overridden, remaining
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.dialogue import Message
from terminal_gym.trajectory.record import Grading
from terminal_gym.trajectory.redact import known_secrets
from terminal_gym.trajectory.store import Run, RunWriter


@dataclass(frozen=True)
class Job:
    """What was asked for. Two jobs that are equal plan the same attempts."""

    tasks: Mapping[str, str]  # what `find_task` takes → content hash of the task
    agent: str
    attempts: int = 1  # at each task
    model: str = ""  # as `open_model` takes it
    agent_settings: Mapping[str, Any] = field(default_factory=dict)
    model_settings: Mapping[str, Any] = field(
        default_factory=dict
    )  # never a key: the environment holds those
    seed: int | None = None
    max_steps: int | None = None
    grading: Grading = "strict"  # whose verdict is the reward
    network: Literal["task", "upstream", "none"] = (
        "task"  # as its folder says, as upstream gives it, or cut off
    )
    namespace: str | None = None  # of tasks that are given by their folders; None: the usual one
    override: Mapping[str, float] | None = None  # of the tasks' own limits, as `overridden` takes it
    labels: Mapping[str, Any] | None = (
        None  # what the run is for, e.g. the benchmark's name; never interpreted
    )

    @classmethod
    def of(cls, refs: Iterable[str], *, agent: str, attempts: int = 1, **settings: Any) -> Job:
        """Return a job on these tasks.

        Raises:
            UnknownName: A reference stands for no task.
            BadTaskFormat: A task cannot be read.
            BadSetting: Fewer than one attempt.
        """
        if attempts < 1:
            raise BadSetting(f"{attempts} attempts; give each task one or more.")
        for name, known in (("grading", ("strict", "parity")), ("network", ("task", "upstream", "none"))):
            if (given := settings.get(name, known[0])) not in known:
                raise BadSetting(f"{name} is {given!r}; it must be one of {', '.join(known)}.")
        job = cls(tasks={}, agent=agent, attempts=attempts, **settings)
        return replace(job, tasks={ref: job.find(ref).content_hash() for ref in refs})

    def find(self, ref: str) -> Task:
        """Return the task of one of its references, with its own limits; raises as `find_task` does."""
        return find_task(ref) if self.namespace is None else find_task(ref, namespace=self.namespace)

    @classmethod
    def from_run(cls, run: Run) -> Job:
        """Return the job that a run folder was made for.

        Raises:
            BadSetting: The folder was not made by a rollout.
        """
        try:
            return cls(**run.settings)
        except TypeError as error:
            raise BadSetting(f"{run.folder} was not made by `tgym rollout`: {error}") from error

    def open_tasks(self) -> dict[str, Task]:
        """Return task ref → task, in order.

        Raises:
            BadSetting: A task is no longer what it was, or two have the same name.
        """
        found: dict[str, Task] = {}
        for ref, known in self.tasks.items():
            task = self.find(ref)
            if task.content_hash() != known:
                advice = "Restore it, or start a new run."
                raise BadSetting(f"{ref} has changed since the run began: {task.content_hash()}. {advice}")
            if str(task.ref) in found:
                raise BadSetting(f"Two tasks are named {task.ref}. Rename one folder.")
            if self.network != "task":
                task = task.granted(self.network == "upstream" and task.asks_network)
            found[str(task.ref)] = overridden(task, self.override or {})
        return found

    def open_model(self) -> ChatModel | None:
        """Return the agent's model, None where it has none; closed by the caller."""
        return open_model(self.model, **self.model_settings) if self.model else None

    def open_agent(self, model: ChatModel | None, *, seed: int | None = None) -> Agent:
        """Return a fresh agent; with a seed, each of its calls of the model has one of its own."""
        if model is None:
            return open_agent(self.agent, **self.agent_settings)
        seeded = model if seed is None else Seeded(model, seed)
        return open_agent(self.agent, model=seeded, **self.agent_settings)


def here(
    job: Job,
    runtime: Runtime,
    tasks: Mapping[str, Task],
    left: Sequence[Attempt],
    *,
    model: ChatModel | None,
    bounds: Bounds,
    name: str = "",
    log: Callable[[str], None] = lambda text: None,
) -> Here:
    """Return a place for the job's episodes on a runtime of this process; closed by the caller."""
    shelf = ImageShelf(
        runtime,
        [tasks[attempt.task].image for attempt in left],
        parallel=bounds.images,
        quota_bytes=bounds.image_quota_bytes,
        floor_bytes=bounds.disk_floor_bytes,
        log=log,
    )
    return Here(
        runtime,
        tasks=tasks,
        make_agent=lambda seed: job.open_agent(model, seed=seed),
        starts=bounds.starts,
        verifications=bounds.verifications,
        max_steps=bounds.max_steps,
        grading=job.grading,
        shelf=shelf,
        name=name,
    )


class Rollout:
    """A job, a folder, places to play at: ready to run. Lent by `open_rollout`."""

    def __init__(self, job: Job, tasks: Mapping[str, Task], left: Sequence[Attempt], engine: Engine):
        self.job, self.tasks, self.left, self._engine = job, tasks, tuple(left), engine

    @property
    def planned(self) -> int:
        """How many attempts the whole job is."""
        return len(self.tasks) * self.job.attempts

    def run(self) -> None:
        """Play what is left; raises as `Engine.run` does."""
        self._engine.run(self.left)

    def finish(self) -> None:
        """Start nothing more; what runs goes on to its end."""
        self._engine.finish()

    def abort(self) -> None:
        """Start nothing more, and remove every sandbox now."""
        self._engine.abort()


Elsewhere = Callable[[Job, Sequence[Attempt], Bounds], AbstractContextManager[Sequence[Place]]]


@contextlib.contextmanager
def open_rollout(
    job: Job,
    folder: Path,
    where: Runtime | Mapping[str, Runtime] | Elsewhere,
    *,
    bounds: Bounds | None = None,
    retries: Retries | None = None,
    watcher: Watcher | None = None,
    retry_broken: bool = False,
    log: Callable[[str], None] = lambda text: None,
) -> Iterator[Rollout]:
    """Lend a rollout of `job` into `folder`, which is made or gone on with.

    Args:
        job: What to play.
        folder: The run folder.
        where: Where sandboxes come from: a runtime; several, by the names that records call them; or a function that
            lends places, such as `cluster.nodes`. Runtimes are closed by the caller.
        bounds: How much at once.
        retries: How often again, by blame.
        watcher: Told what happens.
        retry_broken: Play again what is on record as broken.
        log: Told of images that are built and dropped, and of places that go and come back.

    Raises:
        UsageError: Something in the job does not exist or does not fit. Nothing was started.
        StoreError: The folder is in use, damaged by hand, or cannot be written.
    """
    bounds = bounds or Bounds(max_steps=job.max_steps)
    with contextlib.ExitStack() as stack:
        model = None if callable(where) else job.open_model()
        if model is not None:
            stack.callback(model.close)
        tasks = job.open_tasks()
        agent = job.open_agent(_Absent(job.model) if callable(where) and job.model else model)
        for task in tasks.values():  # what an agent cannot play is said before anything is made
            for phase in task.phases:
                agent.begin(phase)
        secrets = [*known_secrets(os.environ), os.environ.get(job.model_settings.get("api_key_env", ""), "")]
        writer = stack.enter_context(RunWriter(folder, asdict(job), secrets=secrets))
        done = {key for key, row in writer.standing.items() if row.status != "broken" or not retry_broken}
        left = remaining(tasks, attempts=job.attempts, done=done)
        if callable(where):
            places = stack.enter_context(where(job, left, bounds))
        else:
            runtimes = where if isinstance(where, Mapping) else {"": where}
            places = [
                here(job, runtime, tasks, left, model=model, bounds=bounds, name=name, log=log)
                for name, runtime in runtimes.items()
            ]
        for place in places:
            stack.callback(place.close)
        engine = Engine(
            tasks=tasks,
            places=places,
            writer=writer,
            agent=agent.name,
            bounds=bounds,
            retries=retries,
            seed=job.seed,
            model=job.model,
            versions=versions(),
            watcher=watcher,
            log=log,
        )
        yield Rollout(job, tasks, left, engine)


class _Absent:
    """Stands for a model that is opened elsewhere, while an agent is asked whether it can play a task."""

    def __init__(self, name: str):
        self.name, self.context_tokens = name, 1 << 30

    def complete(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        session: str = "",
    ) -> Completion:
        raise ProviderDown(f"{self.name} is not opened here.")

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return 0

    def close(self) -> None:
        """Nothing to free."""


def versions() -> dict[str, str]:
    """Return what trajectories say of the software."""
    found = {"python": platform.python_version(), "prompts": prompts.version()}
    with contextlib.suppress(PackageNotFoundError):
        found["terminal-gym"] = version("terminal-gym")
    return found
