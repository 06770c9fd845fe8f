"""Our environment and our agents as plug-ins of Harbor (extra `[harbor]`, Python 3.12 or newer).

    harbor run … -e terminal_gym.harbor:TerminalGymEnvironment      Harbor's agents and verifier in our sandboxes
             … -a terminal_gym.harbor:TerminalGymAgent              and our agents on our terminal

What they do not promise: our validation. Harbor's verifier runs its script beside whatever the agent left running, and
reads what it wrote; an agent that cheats Harbor cheats it here as well. `tgym bench` judges strictly.

Source: Harbor 0.24, `environments/base.py` and `agents/base.py`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import secrets
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from harbor.agents.base import BaseAgent
from harbor.agents.capabilities import AgentCapabilities
from harbor.environments.base import BaseEnvironment, ExecResult
from harbor.environments.capabilities import EnvironmentCapabilities
from harbor.environments.definition import COMPOSE_FILE_NAME, require_agent_environment_definition

from terminal_gym.agents.agent import Agent, open_agent
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import BadSetting, SandboxLost
from terminal_gym.export.atif import as_atif
from terminal_gym.llm.chat import open_model
from terminal_gym.machine import Machine, start_machine
from terminal_gym.rollout.episode import run_episode
from terminal_gym.rollout.job import versions
from terminal_gym.sandbox.base import Runtime, Sandbox, shared_runtime
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Limits, Task, TaskRef, ValidatorSpec, tree_hash
from terminal_gym.terminal.session import Session
from terminal_gym.trajectory.record import Action, Observation, Outcome, Step, Trajectory
from terminal_gym.validation.verdict import Verdict

ROWS, COLS = 40, 160
_PYTHON = ["/tg/bin/python3", "-I", "-S", "-B", "-c"]  # the trusted one: an image may have none
_PIECE = 96 * 1024  # of base64 in one argument; the kernel takes 128 KiB
_PIECES = 12  # in one command; the kernel takes 2 MiB of all of them
_DOWNLOAD = 8 << 30  # bytes
_ANY_TIME_S = 1e6  # Harbor alone stops an agent
_APPEND = "import sys,base64;open(sys.argv[1],'ab').write(base64.b64decode(''.join(sys.argv[2:])))"
_UNPACK = (
    "import sys,os,tarfile;os.makedirs(sys.argv[2],exist_ok=True);"
    "tarfile.open(sys.argv[1]).extractall(sys.argv[2],filter='fully_trusted');os.remove(sys.argv[1])"
)
Result = TypeVar("Result")


class TerminalGymEnvironment(BaseEnvironment):  # type: ignore[misc]  # harbor is not installed where types are checked
    """One container of ours for one trial of Harbor, with a shell on a real terminal in it.

    Args:
        runtime: docker, podman or namespace (`--ek runtime=…`).
        given: As Harbor gives it.
    """

    def __init__(self, *given: Any, runtime: str = "docker", **named: Any):
        self._runtime_name = runtime
        self._machine: Machine | None = None
        super().__init__(*given, **named)

    @staticmethod
    def type() -> str:
        return "terminal-gym"

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(disable_internet=True)

    def _validate_definition(self) -> None:
        require_agent_environment_definition(
            self.environment_dir, docker_image=self.task_env_config.docker_image
        )
        if (self.environment_dir / COMPOSE_FILE_NAME).is_file():
            advice = "Use Harbor's own `-e docker` for tasks with several services, or `tgym bench`."
            raise BadSetting(f"{self.environment_dir} asks for docker compose. {advice}")

    @property
    def machine(self) -> Machine:
        """The running machine.

        Raises:
            SandboxLost: It was not started, or is stopped.
        """
        if self._machine is None:
            raise SandboxLost(f"{self.session_id} is not running")
        return self._machine

    def task(self, instruction: str = "") -> Task:
        """Return the trial's task as ours: image and limits; it is Harbor that judges."""
        config = self.task_env_config
        known = Limits()
        limits = Limits(
            agent_s=_ANY_TIME_S,
            cpus=float(self._effective_cpus or known.cpus),
            memory_mb=self._effective_memory_mb or known.memory_mb,
            disk_mb=self._effective_storage_mb or known.disk_mb,
            pids=4096,
            network=not self._network_disabled,
        )
        return Task(
            ref=TaskRef("Harbor", re.sub(r"[^A-Za-z0-9_.:-]", "-", self.environment_name)),
            folder=self.environment_dir.parent,
            instruction=instruction,
            image=self._recipe(),
            validator=ValidatorSpec(tests=self.environment_dir, mode="restart"),
            limits=limits,
            workdir=config.workdir,
            env=self._startup_env(),
        )

    def _recipe(self) -> ImageRecipe:
        if self.task_env_config.docker_image:
            return ImageRecipe(self.task_env_config.docker_image)
        slug = re.sub(r"[^a-z0-9]+", "-", self.environment_name.lower()).strip("-") or "task"
        return ImageRecipe(f"tgym-harbor/{slug}:{tree_hash(self.environment_dir)[:12]}", self.environment_dir)

    # ── Harbor's calls ──────────────────────────────────────────────────────────────────────────

    async def start(self, force_build: bool) -> None:
        """Build what is not there, boot, make Harbor's folders. Images are named by content: none is built again."""
        await _apart(self._boot)
        await self.ensure_dirs(self._mount_targets(), chmod=True)
        await self._upload_environment_dir_after_start()

    def _boot(self) -> None:
        runtime, task = shared_runtime(self._runtime_name), self.task()
        runtime.build(task.image, log=self.logger.debug)
        self._machine = start_machine(runtime, task, rows=ROWS, cols=COLS, record=True)

    async def stop(self, delete: bool) -> None:
        """Remove the container. It is removed also where Harbor would keep it: nothing of ours outlives its owner."""
        if not delete:
            self.logger.warning("terminal-gym keeps no stopped container: --no-delete has no effect")
        machine, self._machine = self._machine, None
        if machine is not None:
            await _apart(machine.close)

    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        """Run a command with bash beside the shell; raises RuntimeError when its time is up, as Harbor's own does."""
        image, who = self.machine.image, self._resolve_user(user)
        ran = await _apart(
            lambda: self.machine.sandbox.run(
                ["bash", "-c", command],
                timeout_s=float(timeout_sec or _ANY_TIME_S),
                user=image.user if who is None else str(who),
                env={**image.env, **(self._merge_env(env) or {})},
                cwd=cwd or self.task_env_config.workdir or image.workdir or "/",
            )
        )
        if ran.timed_out:
            raise RuntimeError(f"Command timed out after {timeout_sec} seconds")
        out, err = (text.decode("utf-8", "replace") for text in (ran.stdout, ran.stderr))
        return ExecResult(stdout=out, stderr=err, return_code=ran.exit_code)

    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        parent, _, name = target_path.rpartition("/")
        await _apart(lambda: self._upload({name: Path(source_path)}, parent or "/"))

    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        root = Path(source_dir)
        await _apart(lambda: self._upload({path.name: path for path in sorted(root.iterdir())}, target_dir))

    def _upload(self, files: Mapping[str, Path], target: str) -> None:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w:gz") as tar:
            for name, path in files.items():
                tar.add(path, name, filter=_as_root)
        text = base64.b64encode(made.getvalue()).decode("ascii")
        pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
        there = f"/tmp/.tgym-{secrets.token_hex(8)}"
        for at in range(0, len(pieces), _PIECES):
            self._trusted(_APPEND, there, *pieces[at : at + _PIECES])
        self._trusted(_UNPACK, there, target)

    def _trusted(self, program: str, *words: str) -> None:
        ran = self.machine.sandbox.run([*_PYTHON, program, *words], timeout_s=600.0)
        if ran.exit_code:
            said = ran.stderr.decode("utf-8", "replace")[-1000:]
            raise SandboxLost(f"{self.session_id} takes no files: {said}")

    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        body = await _apart(lambda: self._read(source_path))
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            file = next((tar.extractfile(entry) for entry in tar if entry.isfile()), None)
            if file is None:
                raise FileNotFoundError(f"{source_path} in {self.session_id} is no file")
            target = Path(target_path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read())

    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        body = await _apart(lambda: self._read(source_dir))
        Path(target_dir).mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            for entry in tar:
                name = entry.name.partition("/")[2]
                if name and not entry.isdev():
                    # An agent made this archive: what leads out of the folder is refused, not followed.
                    with contextlib.suppress(tarfile.FilterError):
                        tar.extract(entry.replace(name=name, deep=False), target_dir, filter="data")

    def _read(self, path: str) -> bytes:
        body = self.machine.sandbox.read_archive(path, limit_bytes=_DOWNLOAD)
        if body is None:
            raise FileNotFoundError(f"{path} is not in {self.session_id}")
        return body


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


async def _apart(call: Callable[[], Result]) -> Result:
    """Run what blocks in a thread."""
    return await asyncio.to_thread(call)


# ── the agent ───────────────────────────────────────────────────────────────────────────────────


class TerminalGymAgent(BaseAgent):  # type: ignore[misc]
    """One of our agents on the terminal of our environment; leaves `trajectory.json` (ATIF) also when it is cancelled.

    Args:
        logs_dir: As Harbor gives it.
        model_name: As Harbor gives it: `-m openai/…`, as `open_model` takes it.
        agent: Which of ours (`--ak agent=terminus`).
        settings: Of that agent (`--ak parser=xml`); those that begin with `model_` are the model's (`--ak
            model_base_url=…`).
    """

    capabilities = AgentCapabilities(atif=True)

    def __init__(
        self, logs_dir: Path, model_name: str | None = None, *, agent: str = "terminus", **settings: Any
    ):
        ours = {"logger", "mcp_servers", "skills_dir", "extra_env", "load_trajectory", "environment_logs_dir"}
        theirs = {name: settings.pop(name) for name in list(settings) if name in ours}
        super().__init__(logs_dir=logs_dir, model_name=model_name, **theirs)
        self._agent = agent
        self._model_settings = {
            name.removeprefix("model_"): value
            for name, value in settings.items()
            if name.startswith("model_")
        }
        self._settings = {name: value for name, value in settings.items() if not name.startswith("model_")}

    @staticmethod
    def name() -> str:
        return "terminal-gym"

    def version(self) -> str | None:
        return versions().get("terminal-gym", "unknown")

    async def setup(self, environment: BaseEnvironment) -> None:
        """Nothing is installed in the task's image: the terminal is outside it."""
        if not isinstance(environment, TerminalGymEnvironment):
            advice = "Run it with -e terminal_gym.harbor:TerminalGymEnvironment."
            raise BadSetting(
                f"This agent types on our own terminal, and {environment.type()} has none. {advice}"
            )

    async def run(self, instruction: str, environment: BaseEnvironment, context: Any) -> None:
        """Play until the agent submits or Harbor cancels; what was done until then is on record."""
        assert isinstance(environment, TerminalGymEnvironment)
        task = environment.task(instruction)
        with self._opened() as agent:
            play = _Play(environment.machine, task, agent)
            thread = asyncio.create_task(asyncio.to_thread(play.run))
            try:
                await asyncio.shield(thread)
            except asyncio.CancelledError:
                play.cancel()  # its thread ends with the machine at the latest
                raise
            finally:
                self._record(play.trajectory(), context)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Agent]:
        model = open_model(self.model_name, **self._model_settings) if self.model_name else None
        try:
            given = {} if model is None else {"model": model}
            yield open_agent(self._agent, **given, **self._settings)
        finally:
            if model is not None:
                model.close()

    def _record(self, played: Trajectory, context: Any) -> None:
        judged_there = Outcome("broken", None, "judged by Harbor")
        told = replace(played, model=self.model_name or "", outcome=judged_there, versions=versions())
        usage = told.usage
        context.n_input_tokens, context.n_cache_tokens = usage.prompt_tokens, usage.cached_tokens
        context.n_output_tokens, context.cost_usd = usage.completion_tokens, usage.cost_usd
        context.metadata = {"agent": self._agent, "steps": len(told.steps), "limit": told.limit}
        text = json.dumps(as_atif(told), ensure_ascii=True, indent=1, allow_nan=False)
        (self.logs_dir / "trajectory.json").write_text(text + "\n", "ascii")


class _Play:
    """One episode on a machine that is Harbor's to close, and that can be ended from outside."""

    def __init__(self, machine: Machine, task: Task, agent: Agent):
        self._machine, self._task = machine, task
        self._agent = _Watched(agent)
        self._played: Trajectory | None = None

    def run(self) -> None:
        kept = replace(
            self._machine,
            sandbox=cast(Sandbox, _Kept(self._machine.sandbox)),
            session=cast(Session, _Kept(self._machine.session)),
        )
        runtime = cast(Runtime, _Named(self._machine.sandbox.name))
        env = TerminalEnv(
            self._task,
            runtime=runtime,
            rows=ROWS,
            cols=COLS,
            record=True,
            validator=_NotHere(),
            machines=_One(kept),
        )
        self._played = run_episode(env, self._agent, task=env.task)

    def cancel(self) -> None:
        self._agent.stopped.set()

    def trajectory(self) -> Trajectory:
        """Return the episode, or what there is of one that is still under way."""
        if self._played is not None:
            return self._played
        return Trajectory(
            task=str(self._task.ref),
            task_hash=self._task.content_hash(),
            agent=self._agent.name,
            runtime="",
            image_digest=self._machine.image.digest,
            attempt=0,
            seed=None,
            steps=self._agent.steps(),
            outcome=Outcome("broken", None),
            frames=tuple(self._machine.frames),
            rows=ROWS,
            cols=COLS,
            instruction=self._task.instruction,
            limit="stopped by Harbor",
        )


class _Watched:
    """An agent whose steps can be read while it plays, and that submits as soon as it is told to stop."""

    def __init__(self, agent: Agent):
        self._agent, self.name, self.stopped = agent, agent.name, threading.Event()
        self._seen: list[tuple[Observation, float]] = []
        self._said: list[tuple[Action, float]] = []

    def begin(self, task: Task) -> None:
        self._agent.begin(task)

    def act(self, seen: Observation) -> Action:
        self._seen.append((seen, time.monotonic()))
        action = Action(submit=True) if self.stopped.is_set() else self._agent.act(seen)
        self._said.append((action, time.monotonic()))
        return action

    def steps(self) -> tuple[Step, ...]:
        """Return what it did and saw until now; the last action's observation may not be there yet."""
        said, seen = list(self._said), list(self._seen)
        unseen = (Observation("", "", (0, 0)), time.monotonic())
        zero = seen[0][1] if seen else 0.0
        after = [*seen[1:], unseen][: len(said)]
        return tuple(
            Step(action, observed, began - zero, ended - zero)
            for (action, began), (observed, ended) in zip(said, after, strict=True)
        )


class _Kept:
    """Everything that the inner object is, but closing it does nothing: Harbor still needs it."""

    def __init__(self, inner: object):
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def close(self) -> None:
        """Nothing."""


class _One:
    """Gives out the one machine that there is."""

    def __init__(self, machine: Machine):
        self._machine = machine

    def take(self, task: Task, *, rows: int, cols: int, record: bool) -> Machine:
        return self._machine


class _NotHere:
    """Judges nothing: that is Harbor's part."""

    def judge(self, sandbox: Sandbox, task: Task, *, runtime: Runtime) -> Verdict:
        return Verdict("failed", "shared", "judged by Harbor")


class _Named:
    """A runtime that is only asked for its name: the machine is there already."""

    def __init__(self, name: str):
        self.name = name
