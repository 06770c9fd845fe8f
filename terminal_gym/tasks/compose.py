"""Reads a docker-compose.yaml as a set of machines: the agent's own, and the services beside it.

A documented subset (docs/tasks.md): what it means is translated to a private network per episode, with service names
as the names on it; whatever else stands there would change the task, and is an error with file, line and key.
`ports` and `expose` say nothing here: services reach one another, and no port of the host is published.

Source: the Compose specification; terminal-bench 0.2.18 and Harbor 0.24 for what a harness fills in.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.harness import Condition, Healthcheck, Mount, Service
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.marked_yaml import Block, read_mapping
from terminal_gym.tasks.room import KEYS, Room, read_room
from terminal_gym.tasks.task import tree_hash

FILES = ("docker-compose.yaml", "docker-compose.yml", "compose.yaml", "compose.yml")
# Without a meaning here: how a harness keeps a container, and what a person would see of it.
IGNORED = (
    "stdin_open", "tty", "restart", "platform", "ports", "expose", "labels", "stop_grace_period", "stop_signal",
    "pull_policy",
)  # fmt: skip
READ = (
    "build", "image", "container_name", "hostname", "command", "entrypoint", "environment", "working_dir", "user",
    "depends_on", "healthcheck", "volumes", "networks", "init", *KEYS,
)  # fmt: skip
CONDITIONS: Mapping[str, Condition] = {
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}
_IDLE = re.compile(r"(\S*sleep\s+(infinity|inf|\d+[smhd]?)|\S*tail\s+-f\s+/dev/null|\S*(ba)?sh|\S*cat)\s*;?")
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>\w+)(?::?-(?P<default>[^}]*))?\}|(?P<bare>\w+))")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")


@dataclass(frozen=True)
class Compose:
    """What the file says: of the agent's machine, and of the others."""

    name: str = ""  # of the agent's service
    dockerfile: str | None = None  # relative to `context`; None: the image is not built
    context: Path | None = None
    image: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    user: str = ""
    healthcheck: Healthcheck | None = None
    aliases: tuple[str, ...] = ()
    room: Room = field(default_factory=Room)
    services: tuple[Service, ...] = ()
    needs: tuple[tuple[str, Condition], ...] = ()


def find_compose(folder: Path) -> Path | None:
    """Return the compose file in `folder`, None where there is none."""
    return next((folder / name for name in FILES if (folder / name).exists()), None)


def read_compose(
    path: Path,
    *,
    variables: Mapping[str, str],
    main: str = "",
    slug: str = "task",
    exclude: tuple[str, ...] = (),
) -> Compose:
    """Return what the file says.

    Args:
        variables: What the harness fills in; `${NAME}` of anything else needs a default.
        main: Name of the agent's service. "": the one whose container_name or image a harness fills in, else
            `client`, else the only one.
        slug: Begins the names of images built from the file.
        exclude: Names in the build context that never enter a build.

    Raises:
        BadTaskFormat: A key or value that would change the task and is not part of the subset.
    """
    top = read_mapping(path)
    top.refuse_unknown(("version", "name", "services", "volumes", "networks"))
    services = top.block("services")
    if services is None or not services.values:
        raise BadTaskFormat(path, "no services", "Write one, or remove the file.", line=1, field="services")
    volumes = _named(top, "volumes")
    networks = _named(top, "networks")
    if len(networks) > 1:
        raise top.wrong("networks", f"{len(networks)} networks", "All services of a task share one.")
    reader = _Reader(path.parent, variables, volumes, networks, slug, exclude)
    blocks = {name: _service_block(services, name) for name in services.values}
    agent = _agents(services, blocks, main)
    others = tuple(reader.service(name, block) for name, block in blocks.items() if name != agent)
    _check_needs(services, blocks, others)
    return reader.main(agent, blocks[agent], others)


def _service_block(services: Block, name: str) -> Block:
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]*", name):
        raise services.wrong(name, f"{name!r} cannot be a name on a network", "Use letters, digits, - and _.")
    block = services.block(name)
    assert block is not None
    block.refuse_unknown((*READ, *IGNORED))
    return block


def _agents(services: Block, blocks: Mapping[str, Block], main: str) -> str:
    if main:
        if main not in blocks:
            raise BadTaskFormat(
                services.path, f"no service {main!r}", "The agent's is called so.", line=services.line
            )
        return main
    filled = [
        name
        for name, block in blocks.items()
        if "T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME" in str(block.values.get("container_name", ""))
    ]
    if len(filled) > 1:
        raise services.wrong(
            filled[1], "two services are the agent's", "Give one the client's container_name."
        )
    if filled:
        return filled[0]
    if "client" in blocks or len(blocks) == 1:
        return "client" if "client" in blocks else next(iter(blocks))
    advice = "Set container_name: ${T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME} on one, or call it client."
    raise services.wrong(list(blocks)[1], "no service is the agent's", advice)


def _check_needs(services: Block, blocks: Mapping[str, Block], others: tuple[Service, ...]) -> None:
    """Refuse a service that waits for nobody's start, or in a circle."""
    waits = {service.name: {name for name, _ in service.needs} for service in others}
    for name, needs in waits.items():
        if unknown := sorted(needs - blocks.keys()):
            raise services.wrong(
                name, f"depends on {unknown[0]!r}, which no service is called", "Mend the name."
            )
    done: set[str] = set(blocks) - waits.keys()
    while ready := [name for name, needs in waits.items() if needs <= done]:
        done |= set(ready)
        waits = {name: needs for name, needs in waits.items() if name not in done}
    if waits:
        raise services.wrong(min(waits), "services wait for one another", "Break the circle in depends_on.")


def _named(top: Block, key: str) -> tuple[str, ...]:
    """Names declared at the top; the only setting they may have is that they are plain."""
    if top.values.get(key) is None:
        return ()
    block = top.block(key)
    assert block is not None
    for name, value in block.values.items():
        if value not in (None, {}, {"driver": "bridge"}, {"driver": "local"}):
            raise block.wrong(
                name, f"has the settings {value!r}", "Leave them out: it lives as long as an episode."
            )
    return tuple(block.values)


@dataclass(frozen=True)
class _Reader:
    folder: Path
    variables: Mapping[str, str]
    volumes: tuple[str, ...]
    networks: tuple[str, ...]
    slug: str
    exclude: tuple[str, ...]

    def main(self, name: str, block: Block, others: tuple[Service, ...]) -> Compose:
        for key in ("command", "entrypoint"):
            words = self.words(block, key)
            line = " ".join(
                words[2:] if words and words[0].endswith("sh") and words[1:2] == ("-c",) else words or ()
            )
            if line and not _IDLE.fullmatch(line):
                advice = "The agent's machine runs nothing by itself; start it in a service, or in the image's shell."
                raise block.wrong(key, f"the agent's machine would run {line!r}", advice)
        if self.mounts(block):
            raise block.wrong(
                "volumes", "a volume in the agent's machine", "Copy the files in the Dockerfile."
            )
        context, dockerfile = self.built(block)
        image = self.filled(block, "image")
        if context is None and not image:
            context, dockerfile = self.folder, "Dockerfile"
        return Compose(
            name=name,
            dockerfile=dockerfile,
            context=context,
            image="" if context is not None else image,
            env=self.environment(block),
            workdir=self.filled(block, "working_dir") or None,
            user=self.filled(block, "user"),
            healthcheck=self.healthcheck(block),
            aliases=self.aliases(name, block),
            room=read_room(block, self.filled),
            services=others,
            needs=self.needs(block),
        )

    def service(self, name: str, block: Block) -> Service:
        read_room(
            block, self.filled
        )  # not kept: beside the agent's machine there is no bound, but nonsense is told
        return Service(
            name=name,
            image=self.recipe(name, block),
            command=self.words(block, "command"),
            entrypoint=self.words(block, "entrypoint"),
            env=self.environment(block),
            user=self.filled(block, "user"),
            workdir=self.filled(block, "working_dir"),
            aliases=self.aliases(name, block),
            mounts=self.mounts(block),
            healthcheck=self.healthcheck(block),
            needs=self.needs(block),
            init=block.flag("init", False),
        )

    def recipe(self, name: str, block: Block) -> ImageRecipe:
        context, dockerfile = self.built(block)
        if context is None:
            if not (image := self.filled(block, "image")):
                raise block.wrong("image", "neither image nor build", "Name the service's image.")
            return ImageRecipe(image)
        exclude = self.exclude if context == self.folder else ()
        tag = tree_hash(context, exclude=exclude)[:12]
        return ImageRecipe(
            f"tgym/{self.slug}-{name.lower()}:{tag}", context, dockerfile or "Dockerfile", exclude=exclude
        )

    def built(self, block: Block) -> tuple[Path | None, str | None]:
        """(context folder, Dockerfile in it), None where the service is not built."""
        if block.values.get("build") is None:
            return None, None
        build = block.block("build") if isinstance(block.values["build"], dict) else None
        if build:
            build.refuse_unknown(("context", "dockerfile", "network", "tags"))
        given = self.filled(build, "context", ".") if build else self.filled(block, "build")
        context = (self.folder / given).resolve()
        if not context.is_relative_to(self.folder.resolve()) or not context.is_dir():
            (where, key) = (build, "context") if build and "context" in build.values else (block, "build")
            assert where is not None
            raise where.wrong(
                key, f"build context {given!r} is no folder below the file's", "Keep it inside."
            )
        context = self.folder / context.relative_to(self.folder.resolve())
        name = self.filled(build, "dockerfile", "Dockerfile") if build else "Dockerfile"
        if ".." in Path(name).parts or not (context / name).is_file():
            where = build if build and "dockerfile" in build.values else block
            key = "dockerfile" if where is build else "build"
            raise where.wrong(key, f"no file {name!r} in {given!r}", "Name the Dockerfile.")
        return context, name

    def environment(self, block: Block) -> dict[str, str]:
        given = block.values.get("environment") or {}
        pairs = dict(str(item).partition("=")[::2] for item in given) if isinstance(given, list) else given
        if not isinstance(pairs, dict):
            raise block.wrong("environment", "neither a list nor a mapping", "Write NAME: value.")
        if isinstance(given, list) and (bare := [item for item in given if "=" not in str(item)]):
            raise block.wrong(
                "environment", f"{bare[0]} has no value", "The host's are not handed in; write it."
            )
        return {str(name): self.fill(block, "environment", _scalar(value)) for name, value in pairs.items()}

    def words(self, block: Block, key: str) -> tuple[str, ...] | None:
        """A command as a list of words; None where the key is missing."""
        value = block.values.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            try:
                value = shlex.split(value)
            except ValueError as error:
                raise block.wrong(key, f"cannot be split into words: {error}", "Mend the quotes.") from error
        if not isinstance(value, list):
            raise block.wrong(key, "neither a string nor a list", "Write [program, argument].")
        return tuple(self.fill(block, key, _scalar(word)) for word in value)

    def aliases(self, name: str, block: Block) -> tuple[str, ...]:
        names = [name]
        for key in ("container_name", "hostname"):
            given = str(block.values.get(key, ""))
            names += [self.fill(block, key, given)] if given and "T_BENCH_" not in given else []
        used = block.values.get("networks") or []
        if isinstance(used, dict):
            nets = block.block("networks")
            assert nets is not None
            for net, settings in nets.values.items():
                inner = nets.block(net) if settings is not None else None
                if inner:
                    inner.refuse_unknown(("aliases",))
                    names += inner.texts("aliases")
            used = list(used)
        if not isinstance(used, list):
            raise block.wrong("networks", "neither a list nor a mapping", "Write [name].")
        for net in used:
            if net not in (*self.networks, "default"):
                raise block.wrong(
                    "networks", f"{net!r} is not declared at the top", "Declare it under networks."
                )
        return tuple(dict.fromkeys(names))

    def mounts(self, block: Block) -> tuple[Mount, ...]:
        found = []
        for given in block.texts("volumes", twice=True):
            if (
                "_LOGS_PATH" in given
            ):  # a harness's own folders; made in the sandbox, nothing of the host is shown
                continue
            name, _, rest = self.fill(block, "volumes", given).partition(":")
            target, _, mode = rest.partition(":")
            if name not in self.volumes or not target.startswith("/") or mode not in ("", "ro", "rw"):
                advice = "Copy files in the Dockerfile, or declare a named volume under volumes."
                raise block.wrong("volumes", f"{given!r} is not supported", advice)
            found.append(Mount(name, str(PurePosixPath(target)), mode == "ro"))
        return tuple(found)

    def needs(self, block: Block) -> tuple[tuple[str, Condition], ...]:
        given = block.values.get("depends_on") or []
        if isinstance(given, list):
            return tuple((name, "started") for name in block.texts("depends_on"))
        needs = block.block("depends_on")
        assert needs is not None
        found: list[tuple[str, Condition]] = []
        for name in needs.values:
            inner = needs.block(name)
            assert inner is not None
            inner.refuse_unknown(("condition", "restart", "required"))
            found.append((name, CONDITIONS[inner.choice("condition", tuple(CONDITIONS), "service_started")]))
        return tuple(found)

    def healthcheck(self, block: Block) -> Healthcheck | None:
        check = block.block("healthcheck")
        if check is None:
            return None
        check.refuse_unknown(
            ("test", "interval", "timeout", "retries", "start_period", "start_interval", "disable")
        )
        test = check.values.get("test")
        if check.flag("disable", False) or test in (None, ["NONE"]):
            return None
        words = [test] if isinstance(test, str) else test
        if not isinstance(words, list) or not words:
            raise check.wrong("test", "neither a string nor a list", "Write [CMD, program].")
        texts = [self.fill(check, "test", _scalar(word)) for word in words]
        command: tuple[str, ...]
        if isinstance(test, str) or texts[0] == "CMD-SHELL":
            command = ("sh", "-c", texts[-1])
        elif texts[0] == "CMD":
            command = tuple(texts[1:])
        else:
            raise check.wrong("test", f"begins with {texts[0]!r}", "Begin it with CMD or CMD-SHELL.")
        return Healthcheck(
            command,
            interval_s=_seconds(check, "interval", 30.0),
            timeout_s=_seconds(check, "timeout", 30.0),
            start_s=_seconds(check, "start_period", 0.0),
            start_interval_s=_seconds(check, "start_interval", 5.0),
            retries=check.whole("retries", 3),
        )

    def filled(self, block: Block | None, key: str, default: str = "") -> str:
        if block is None or block.values.get(key) is None:
            return default
        return self.fill(block, key, _scalar(block.values[key]))

    def fill(self, block: Block, key: str, text: str) -> str:
        """Return `text` with its variables filled in."""

        def value(found: re.Match[str]) -> str:
            if found["dollar"]:
                return "$"
            name = found["braced"] or found["bare"]
            if name in self.variables:
                return self.variables[name]
            if found["default"] is None:
                _refuse_variable(block, key, name, text)
            return found["default"]

        return _VARIABLE.sub(value, text)


def _refuse_variable(block: Block, key: str, name: str, text: str) -> NoReturn:
    raise block.wrong(
        key, f"{text!r} uses ${name}, which nobody fills in", "Write the value, or ${NAME:-default}."
    )


def _scalar(value: object) -> str:
    """A plain value as compose writes it into a variable or an argument."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _seconds(block: Block, key: str, default: float) -> float:
    value = block.values.get(key)
    if value is None:
        return default
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or not any(found.groups()):
        raise block.wrong(key, f"{value!r} is no duration", "Write e.g. 5s, 1m30s or 500ms.")
    hours, minutes, seconds, millis = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + millis / 1000
