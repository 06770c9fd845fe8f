"""Reads Harbor task folders: Terminal-Bench 2.0 and 2.1, and whatever else has that format.

    <name>/task.toml  instruction.md  environment/{Dockerfile | docker-compose.yaml | files}
           tests/test.sh (and what it needs)  [solution/solve.sh]
           [steps/<step>/{instruction.md, tests/, solution/, workdir/}]

Keys that are not interpreted are kept as metadata. What a task asks for and cannot be given here (Windows, GPUs, an
allow-list of hosts in place of the network) is an error or a stricter setting, and said so.

Source: Harbor 0.24, schema versions 1.0 to 1.4, with the names that older versions used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.compose import Compose, find_compose, read_compose
from terminal_gym.tasks.harness import (
    Artifact,
    Healthcheck,
    Hook,
    ScriptSpec,
    Strategy,
    StrictSpec,
    TaskStep,
    VerifierMachine,
)
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.marked_toml import TomlBlock, read_toml
from terminal_gym.tasks.marked_yaml import read_text
from terminal_gym.tasks.solution import Solution
from terminal_gym.tasks.task import NAME, Limits, Task, TaskRef, ValidatorSpec
from terminal_gym.tasks.terminal_bench import built_image, check_links, suits_trusted_pytest

NAMESPACE = "TerminalBench2"
SCHEMAS = ("1.0", "1.1", "1.2", "1.3", "1.4")
NETWORKS = ("public", "no-network", "allowlist")
HOST_ENV = "TGYM_HOST_ENV"  # names of this machine's variables that task files may read, with commas
NO_LIMIT_S = 30 * 86_400.0  # for an agent whose task sets no time limit
_CANARY = re.compile(r"^(<!--.*canary.*-->|#.*canary.*)$", re.IGNORECASE)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([GMK])B?", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_MB = {"G": 1024.0, "M": 1.0, "K": 1 / 1024}


def is_task_folder(folder: Path) -> bool:
    """Whether `folder` holds a task of this format, by its content."""
    return (folder / "task.toml").is_file()


def read_task(folder: Path, *, namespace: str = NAMESPACE) -> Task:
    """Return the task in `folder`; its name is the folder's name.

    Raises:
        BadTaskFormat: Something in the folder is missing or wrong, or cannot be given here; names file, line, field.
    """
    folder = Path.cwd() / folder
    folder = folder if NAME.fullmatch(folder.name) else folder.resolve()
    if not NAME.fullmatch(folder.name):
        found = f"the folder's name {folder.name!r} cannot be an id"
        raise BadTaskFormat(folder, found, f"Use {NAME.pattern}.")
    for name, is_there, advice in (
        ("task.toml", Path.is_file, "Harbor folders have one."),
        ("environment", Path.is_dir, "Put a Dockerfile into it, or set environment.docker_image."),
    ):
        if not is_there(folder / name):
            raise BadTaskFormat(folder / name, "missing", advice)
    check_links(folder)
    return _Reader(folder, read_toml(folder / "task.toml")).task(TaskRef(namespace, folder.name))


class _Reader:
    def __init__(self, folder: Path, top: TomlBlock):
        self.folder, self.top = folder, top
        self.slug = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "task"
        self.environment = top.block("environment") or self._empty("environment")
        self.agent = top.block("agent") or self._empty("agent")
        self.verifier = top.block("verifier") or self._empty("verifier")
        self.limits = Limits()

    def _empty(self, name: str) -> TomlBlock:
        return TomlBlock(self.top.path, {}, {}, {}, 1, f"{name}.", self.top.places)

    def task(self, ref: TaskRef) -> Task:
        self._check_version()
        if (os_name := self.environment.text("os", "linux").lower()) != "linux":
            raise self.environment.wrong(
                "os", f"the task is for {os_name}", "Only Linux tasks can be run here."
            )
        asks, self.limits = self._network(), self._limits()
        steps = self._steps()
        compose = self._compose()
        script = None if steps else self._script(self.folder / "tests", self.verifier, None)
        tests = self.folder / "tests"
        pytests = script is not None and script.machine is None and suits_trusted_pytest(tests)
        docker_image = self.environment.text("docker_image", "")
        loose = bool(docker_image) and not self._has_recipe(self.folder / "environment")
        return Task(
            ref=ref,
            folder=self.folder,
            instruction=self._instruction(self.folder, needed=not steps) or steps[0].instruction,
            image=self._image(compose, docker_image),
            validator=ValidatorSpec(tests, "restart", tested_code_user="root", own_conftest=True),
            limits=self.limits,
            solution=self._solution(self.folder),
            workdir=self._workdir(self.environment) or compose.workdir,
            env=MappingProxyType({**compose.env, **self._env(self.environment, "env")}),
            metadata=MappingProxyType(self._labels()),
            format="harbor",
            script=script,
            strict=StrictSpec("pytest" if pytests else "script", calibrated=False),
            asks_network=asks,
            user=self._user(self.agent) or compose.user,
            service=compose.name or "main",
            services=compose.services,
            needs=compose.needs,
            healthcheck=self._healthcheck(self.environment) or compose.healthcheck,
            uploads=self.folder / "environment" if loose else None,
            steps=steps,
            strategy=self._strategy(),
        )

    # ── task.toml ───────────────────────────────────────────────────────────────────────────────

    def _check_version(self) -> None:
        given = {key: self.top.text(key) for key in ("schema_version", "version") if key in self.top.values}
        if len(set(given.values())) > 1:
            raise self.top.wrong("version", f"two versions are given: {given}", "Keep schema_version.")
        for key, version in given.items():
            if version not in SCHEMAS:
                raise self.top.wrong(key, f"version {version!r}", f"Known: {', '.join(SCHEMAS)}.")

    def _strategy(self) -> Strategy:
        found = self.top.choice("multi_step_reward_strategy", ("mean", "final"), "mean")
        return "final" if found == "final" else "mean"

    def _network(self) -> bool:
        """Whether the agent's phase has the network; an allow-list cannot be kept here, so it counts as none."""
        for block in (self.agent, self.environment):
            if "network_mode" in block.values:
                return block.choice("network_mode", NETWORKS, "public") == "public"
            if block.texts("allowed_hosts"):
                return False
        return self.environment.flag("allow_internet", True)

    def _limits(self) -> Limits:
        env = self.environment
        if isinstance(gpus := env.values.get("gpus", 0), int) and gpus > 0:
            raise env.wrong("gpus", f"the task asks for {gpus} GPUs", "No runtime here gives one.")
        if "tpu" in env.values:
            raise env.wrong("tpu", "the task asks for a TPU", "No runtime here gives one.")
        return Limits(
            agent_s=self.agent.number("timeout_sec", NO_LIMIT_S),
            verifier_s=self.verifier.number("timeout_sec", 600.0),
            cpus=env.number("cpus", 4.0),
            memory_mb=self._megabytes(env, "memory_mb", "memory", 8192),
            disk_mb=self._megabytes(env, "storage_mb", "storage", 10_240),
            pids=4096,
            network=self._network(),
        )

    def _megabytes(self, block: TomlBlock, key: str, legacy: str, default: int) -> int:
        if legacy not in block.values:
            return block.whole(key, default)
        found = _SIZE.fullmatch(block.text(legacy).strip())
        if found is None:
            raise block.wrong(legacy, f"{block.values[legacy]!r} is no size", "Write e.g. 2G or 512M.")
        size = max(1, int(float(found[1]) * _MB[found[2].upper()]))
        if key in block.values and block.whole(key, size) != size:
            raise block.wrong(legacy, f"{legacy} and {key} disagree", f"Keep {key}.")
        return size

    def _env(self, block: TomlBlock, key: str) -> dict[str, str]:
        allowed = set(filter(None, os.environ.get(HOST_ENV, "").split(",")))

        def value(found: re.Match[str]) -> str:
            name, default = found[1], found[2]
            if name in allowed and name in os.environ:
                return os.environ[name]
            if default is None:
                advice = f"Set it, and name it in {HOST_ENV}: no task reads this machine's variables unasked."
                raise block.wrong(key, f"reads ${{{name}}} of this machine", advice)
            return str(default)

        return {name: _VARIABLE.sub(value, text) for name, text in block.strings(key).items()}

    def _user(self, block: TomlBlock) -> str:
        user = block.values.get("user")
        return str(user) if isinstance(user, int) and not isinstance(user, bool) else block.text("user", "")

    def _workdir(self, block: TomlBlock) -> str | None:
        if "workdir" not in block.values:
            return None
        return _absolute(block, "workdir", block.text("workdir"))

    def _healthcheck(self, block: TomlBlock) -> Healthcheck | None:
        check = block.block("healthcheck")
        if check is None:
            return None
        return Healthcheck(
            ("bash", "-c", check.text("command")),
            interval_s=check.seconds("interval_sec", 5.0),
            timeout_s=check.number("timeout_sec", 30.0),
            start_s=check.seconds("start_period_sec", 0.0),
            start_interval_s=check.seconds("start_interval_sec", 5.0),
            retries=check.whole("retries", 3),
        )

    def _labels(self) -> dict[str, object]:
        read = {"environment", "agent", "verifier", "steps", "artifacts", "solution"}
        labels: dict[str, object] = {k: v for k, v in self.top.values.items() if k not in read | {"metadata"}}
        metadata = self.top.block("metadata")
        labels |= dict(metadata.values) if metadata else {}
        known = ("mcp_servers", "skills_dir", "gpu_types", "allowed_hosts", "network_mode")
        return labels | {k: self.environment.values[k] for k in known if k in self.environment.values}

    # ── the folder ──────────────────────────────────────────────────────────────────────────────

    def _instruction(self, folder: Path, *, needed: bool) -> str:
        path = folder / "instruction.md"
        if not path.is_file():
            if needed:
                raise BadTaskFormat(path, "missing", "Write what the agent is to do.")
            return ""
        text = without_canary(read_text(path))
        if not text.strip() and needed:
            raise BadTaskFormat(path, "is empty", "Write what the agent is to do.", line=1)
        return text

    def _has_recipe(self, folder: Path) -> bool:
        return (folder / "Dockerfile").is_file() or find_compose(folder) is not None

    def _compose(self) -> Compose:
        folder = self.folder / "environment"
        path = find_compose(folder)
        if path is None:
            return Compose()
        image = self.environment.text("docker_image", "")
        limits = self.limits
        variables = {
            "MAIN_IMAGE_NAME": f"hb__{self.slug}",
            "PREBUILT_IMAGE_NAME": image,
            "CONTEXT_DIR": ".",
            "CPUS": f"{limits.cpus:g}",
            "MEMORY": f"{limits.memory_mb}M",
            "TEST_DIR": "/tests",
        }
        for kind, place in (
            ("AGENT_LOGS", "agent"),
            ("VERIFIER_LOGS", "verifier"),
            ("ARTIFACTS", "artifacts"),
        ):
            variables |= {f"{side}_{kind}_PATH": f"/logs/{place}" for side in ("HOST", "ENV")}
        return read_compose(path, variables=variables, main="main", slug=self.slug)

    def _image(self, compose: Compose, docker_image: str) -> ImageRecipe:
        folder = self.folder / "environment"
        if compose.image and not docker_image and not (folder / "Dockerfile").is_file():
            return ImageRecipe(compose.image)
        context, dockerfile = compose.context or folder, compose.dockerfile or "Dockerfile"
        return self._recipe(context, dockerfile, docker_image, self.slug)

    def _recipe(self, context: Path, dockerfile: str, docker_image: str, slug: str) -> ImageRecipe:
        built = (context / dockerfile).is_file()
        if docker_image:
            return (
                ImageRecipe(docker_image, context, dockerfile, prebuilt=True)
                if built
                else ImageRecipe(docker_image)
            )
        if not built:
            raise BadTaskFormat(
                context / dockerfile, "missing", "Write one, or set environment.docker_image in task.toml."
            )
        return built_image(context, dockerfile, slug=slug)

    def _solution(self, folder: Path) -> Solution | None:
        script = folder / "solution" / "solve.sh"
        if not script.is_file():
            return None
        block = self.top.block("solution") or self._empty("solution")
        env = {"DEBIAN_FRONTEND": "noninteractive", **self._env(block, "env")}
        return Solution(script=read_text(script), folder=script.parent, env=MappingProxyType(env))

    # ── verifiers ───────────────────────────────────────────────────────────────────────────────

    def _script(self, tests: Path, verifier: TomlBlock, step: Path | None) -> ScriptSpec:
        """The verifier of the task, or of one step, whose tests lie in `step` and come after the task's."""
        folders = [folder for folder in (tests, step) if folder is not None and folder.is_dir()]
        if not any((folder / "test.sh").is_file() for folder in folders):
            raise BadTaskFormat(
                (step or tests) / "test.sh", "missing", "It writes /logs/verifier/reward.txt."
            )
        own = self._env(verifier, "env")
        return ScriptSpec(
            script="/tests/test.sh",
            uploads=tuple(folders),
            parser="reward-file",
            timeout_s=verifier.number("timeout_sec", 600.0),
            env=MappingProxyType(own if step is None else {**self._env(self.verifier, "env"), **own}),
            user=self._user(verifier) or (self._user(self.verifier) if step is not None else ""),
            hooks=tuple(map(self._hook, verifier.tables("collect"))),
            artifacts=self._artifacts(self.top),
            machine=self._machine(verifier, folders),
        )

    def _machine(self, verifier: TomlBlock, folders: list[Path]) -> VerifierMachine | None:
        blocks = [verifier] if verifier is self.verifier else [verifier, self.verifier]
        environments = [block.block("environment") for block in blocks]
        mode = next(
            (
                b.choice("environment_mode", ("shared", "separate"), "shared")
                for b in blocks
                if "environment_mode" in b.values
            ),
            "",
        )
        if mode == "shared" and environments[0] is not None:
            raise verifier.wrong("environment", "given for a shared verifier", "Remove it, or say separate.")
        if mode == "shared" or (not mode and not any(environments)):
            return None
        table = next(
            (table for table in environments if table is not None), self._empty("verifier.environment")
        )
        image, owns = self._verifier_image(environments, folders)
        return VerifierMachine(
            image=image,
            owns_tests=owns,
            env=MappingProxyType(self._env(table, "env")),
            workdir=self._workdir(table),
            cpus=table.number("cpus", 1.0) if "cpus" in table.values else None,
            memory_mb=self._megabytes(table, "memory_mb", "memory", 2048)
            if {"memory_mb", "memory"} & set(table.values)
            else None,
            network=self._verifier_network(blocks, table),
        )

    def _verifier_image(
        self, environments: list[TomlBlock | None], folders: list[Path]
    ) -> tuple[ImageRecipe, bool]:
        """The step's image, else the task's, else a fresh copy of the agent's environment."""
        for table, folder in zip(environments, reversed(folders), strict=False):
            named = table.text("docker_image", "") if table is not None else ""
            if named or (folder / "Dockerfile").is_file():
                return self._recipe(folder, "Dockerfile", named, f"{self.slug}-verifier"), True
            if find_compose(folder) is not None:
                advice = "Use one Dockerfile: a verifier of several services is not supported."
                raise BadTaskFormat(folder, "a verifier's docker-compose.yaml", advice)
        return self._image(self._compose(), self.environment.text("docker_image", "")), False

    def _verifier_network(self, blocks: list[TomlBlock], table: TomlBlock) -> bool | None:
        for block in (*blocks, table):
            if "network_mode" in block.values:
                return block.choice("network_mode", NETWORKS, "public") == "public"
            if block.texts("allowed_hosts"):
                return False
        return table.flag("allow_internet", True) if "allow_internet" in table.values else None

    def _hook(self, block: TomlBlock) -> Hook:
        service = block.text("service", "main")
        timeout_s = block.number("timeout_sec", 60.0)
        return Hook(block.text("command"), "" if service == "main" else service, timeout_s, self._user(block))

    def _artifacts(self, block: TomlBlock) -> tuple[Artifact, ...]:
        given = block.values.get("artifacts", [])
        if not isinstance(given, list):
            raise block.wrong("artifacts", "not a list", 'Write ["/app/out.txt"].')
        found = []
        for index, entry in enumerate(given):
            if isinstance(entry, str):
                found.append(Artifact(_absolute(block, "artifacts", entry)))
            elif isinstance(entry, dict) and isinstance(entry.get("source"), str):
                destination = str(entry.get("destination", ""))
                if (
                    destination.startswith("/")
                    or ".." in destination.split("/")
                    or destination == "manifest.json"
                ):
                    raise block.wrong("artifacts", f"destination {destination!r}", "Write a relative path.")
                service = str(entry.get("service", "main"))
                source = _absolute(block, "artifacts", entry["source"])
                exclude = tuple(map(str, entry.get("exclude", ())))
                found.append(Artifact(source, destination, exclude, "" if service == "main" else service))
            else:
                raise block.wrong("artifacts", f"entry {index} is no path", 'Write "/app/out.txt".')
        return tuple(found)

    # ── steps ───────────────────────────────────────────────────────────────────────────────────

    def _steps(self) -> tuple[TaskStep, ...]:
        steps = tuple(map(self._step, self.top.tables("steps")))
        names = [step.name for step in steps]
        if doubles := [name for name in names if names.count(name) > 1]:
            raise self.top.wrong("steps", f"two steps are named {doubles[0]!r}", "Rename one.")
        return steps

    def _step(self, block: TomlBlock) -> TaskStep:
        name = block.text("name")
        folder = self.folder / "steps" / name
        if "/" in name or name.startswith(".") or not folder.is_dir():
            raise block.wrong("name", f"no folder steps/{name}", "A step has a folder of its name.")
        agent = block.block("agent")
        verifier = block.block("verifier") or TomlBlock(
            block.path, {}, {}, {}, block.line, f"{block.prefix}verifier.", block.places
        )
        if agent is not None:
            self._check_agent(agent)
        own = self._artifacts(block)
        script = self._script(self.folder / "tests", verifier, folder / "tests")
        return TaskStep(
            name=name,
            instruction=self._instruction(folder, needed=True),
            script=_with_artifacts(script, own),
            agent_s=agent.number("timeout_sec", NO_LIMIT_S)
            if agent and "timeout_sec" in agent.values
            else None,
            workdir=folder / "workdir" if (folder / "workdir").is_dir() else None,
            healthcheck=self._healthcheck(block),
            min_reward=self._least(block),
            solution=self._solution(folder),
        )

    def _check_agent(self, agent: TomlBlock) -> None:
        """One terminal serves all steps: its user and its network do not change between them."""
        if "user" in agent.values and self._user(agent) != self._user(self.agent):
            found = f"another user than the task's, {self._user(agent)!r}"
            raise agent.wrong("user", found, "All steps are played in one terminal: set agent.user instead.")
        modes = {
            "network_mode": agent.text("network_mode", ""),
            "allowed_hosts": agent.texts("allowed_hosts"),
        }
        for key, given in modes.items():
            if given and (given == "public") != self.limits.network:
                advice = "All steps are played on one machine: set it for the whole task."
                raise agent.wrong(key, f"another network than the task's, {given!r}", advice)

    def _least(self, block: TomlBlock) -> Mapping[str, float]:
        given = block.values.get("min_reward")
        if given is None:
            return {}
        rows: dict[str, object] = dict(given) if isinstance(given, dict) else {"reward": given}
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in rows.values()):
            raise block.wrong(
                "min_reward", f"{given!r} is no number", "Write a number, or one per reward key."
            )
        return {key: float(str(value)) for key, value in rows.items()}


def _with_artifacts(script: ScriptSpec, more: tuple[Artifact, ...]) -> ScriptSpec:
    return replace(script, artifacts=(*script.artifacts, *more))


def without_canary(text: str) -> str:
    """Return the instruction without the leading lines that only mark it for data filters."""
    lines = text.splitlines(keepends=True)
    while lines and _CANARY.match(lines[0].strip()):
        del lines[0]
        while lines and not lines[0].strip():
            del lines[0]
    return "".join(lines)


def _absolute(block: TomlBlock, key: str, path: str) -> str:
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or ".." in parts or "\0" in path or len(parts) < 2:
        raise block.wrong(key, f"{path!r} is not a plain absolute path below /", "Write e.g. /app/out.json.")
    if parts[1] in ("tg", "proc", "sys", "dev"):
        raise block.wrong(key, f"{path!r} is under /{parts[1]}", "That is the sandbox's own; use another.")
    return str(PurePosixPath(path))
