"""Reads the docker-compose.yaml of a Terminal-Bench 1.0 folder: boilerplate around one service.

Upstream starts every task through compose; here it only names the Dockerfile and adds variables. What a harness
fills in (`T_BENCH_*`) is dropped.

Source: terminal-bench 0.2.18, the task template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.marked_yaml import Block, read_mapping

BOILERPLATE = ("image", "container_name", "command", "stdin_open", "tty", "init", "restart", "platform")


@dataclass(frozen=True)
class Compose:
    """What the one service sets for itself."""

    dockerfile: str = "Dockerfile"
    env: Mapping[str, str] = field(default_factory=dict)


def read_compose(folder: Path) -> Compose:
    """Return what the folder's docker-compose.yaml sets, the defaults where it has none.

    Raises:
        BadTaskFormat: Several services, or a setting that would change the task and is not supported.
    """
    path = next(
        (p for p in (folder / "docker-compose.yaml", folder / "docker-compose.yml") if p.exists()), None
    )
    if path is None:
        return Compose()
    services = read_mapping(path).block("services")
    if services is None or not services.values:
        raise BadTaskFormat(path, "no services", "Write one, or remove the file.", line=1, field="services")
    if len(services.values) > 1:
        name = list(services.values)[1]
        raise services.wrong(
            name, "several services are not supported yet", "Only tasks with one service run."
        )
    service = services.block(next(iter(services.values)))
    assert service is not None
    service.refuse_unknown((*BOILERPLATE, "build", "environment", "volumes"))
    for volume in service.texts("volumes"):
        if "T_BENCH_" not in volume:
            raise service.wrong(
                "volumes", f"{volume!r} is not supported", "Copy the files in the Dockerfile."
            )
    return Compose(_dockerfile(folder, service), _environment(service))


def _dockerfile(folder: Path, service: Block) -> str:
    build = service.block("build") if isinstance(service.values.get("build"), dict) else None
    context = build.values.get("context", ".") if build else service.values.get("build", ".")
    if context not in (".", "./"):
        raise service.wrong("build", f"build context {context!r} is not supported", "Use the task's folder.")
    if build is None:
        return "Dockerfile"
    build.refuse_unknown(("context", "dockerfile"))
    name = build.text("dockerfile", "Dockerfile")
    if ".." in Path(name).parts or not (folder / name).is_file():
        raise build.wrong("dockerfile", f"no file {name!r} in the folder", "Name the Dockerfile.")
    return name


def _environment(service: Block) -> dict[str, str]:
    """Return the variables with literal values; those that a harness fills in are dropped."""
    given = service.values.get("environment", {})
    pairs = dict(str(item).partition("=")[::2] for item in given) if isinstance(given, list) else given
    if not isinstance(pairs, dict):
        raise service.wrong("environment", "neither a list nor a mapping", "Write NAME: value.")
    found: dict[str, str] = {}
    for name, value in pairs.items():
        if "$" not in str(value):
            found[str(name)] = "" if value is None else str(value)
        elif "T_BENCH_" not in str(value):
            raise service.wrong("environment", f"{name} uses {value!r}", "Write the value itself.")
    return found
