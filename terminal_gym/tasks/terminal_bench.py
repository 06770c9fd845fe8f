"""Reads Terminal-Bench 1.0 task folders, which is also the format of the released TerminalTraj instances.

    <name>/task.yaml  Dockerfile  tests/  [docker-compose.yaml]  [run-tests.sh]
           [solution.sh | solution.yaml]  [partial.sh | partial.yaml]  [item_info.json]

With a `run-tests.sh` the task has a parity verdict, by its parser's rules; our own comes from pytest in the trusted
runtime. The keys under `terminal_gym:` in task.yaml are ours; upstream ignores them, and a folder without them is a
foreign one: it may be judged by its script alone, and an oracle has to show which strict mode fits it.

Source: terminal-bench 0.2.18 (`task.yaml`, `docker-compose.yaml`, `solution.yaml`).
"""

from __future__ import annotations

import ast
import json
import os
import re
import stat
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.compose import Compose, find_compose, read_compose
from terminal_gym.tasks.harness import PARSERS, ScriptSpec, StrictSpec
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.marked_yaml import Block, read_mapping, read_mappings, read_text
from terminal_gym.tasks.solution import Keystrokes, Solution
from terminal_gym.tasks.task import MODES, NAME, Limits, Task, TaskRef, ValidatorSpec, tree_hash

# Never part of a build context: what judges, what solves, and what only a harness reads.
EXCLUDE = (
    "tests", "solution*", "partial*", "run-tests.sh", "task.yaml", "docker-compose.y*ml",
    "item_info.json", "validity.json", "acceptance.json", ".git",
)  # fmt: skip
DIFFICULTIES = ("easy", "medium", "hard", "unknown")
OURS = (
    "mode", "artifacts", "tested_code_user", "own_conftest", "limits", "workdir", "host", "expected", "domain",
)  # fmt: skip
LIMITS = ("steps", "cpus", "memory_mb", "pids", "disk_mb", "network")
UNLIMITED = Limits(cpus=4.0, memory_mb=8192, pids=4096, disk_mb=10_240)  # where upstream sets no limit
INTERPRETED = ("instruction", "max_agent_timeout_sec", "max_test_timeout_sec", "terminal_gym")


def is_task_folder(folder: Path) -> bool:
    """Whether `folder` holds a task of this format, by its content."""
    return (folder / "task.yaml").is_file()


def read_task(folder: Path, *, namespace: str = "TerminalTraj") -> Task:
    """Return the task in `folder`; its name is the folder's name.

    Raises:
        BadTaskFormat: Something in the folder is missing or wrong; names file, line and field.
    """
    folder = Path.cwd() / folder
    folder = folder if NAME.fullmatch(folder.name) else folder.resolve()  # "." and "x/.." have no name yet
    _check_tree(folder)
    top = read_mapping(folder / "task.yaml")
    ours = top.block("terminal_gym")
    foreign = ours is None
    if ours is None:
        ours = Block(top.path, {}, {}, {}, top.line, "terminal_gym.")
    ours.refuse_unknown(OURS)
    script = _script(folder, top)
    foreign = foreign and script is not None  # without either, it was written for the trusted pytest
    compose = _compose(folder)
    limits = _limits(top, ours, compose.room.on(UNLIMITED if foreign else Limits()))
    workdir = (
        _absolute(ours, "workdir", ours.text("workdir")) if "workdir" in ours.values else compose.workdir
    )
    return Task(
        ref=TaskRef(namespace, _name(folder)),
        folder=folder,
        instruction=top.text("instruction"),
        image=_image(folder, compose, ours),
        validator=_validator(folder, ours, script),
        limits=limits,
        solution=_solution(folder, "solution"),
        partial=_solution(folder, "partial"),
        workdir=workdir,
        env=MappingProxyType(dict(compose.env)),
        metadata=MappingProxyType(_metadata(folder, top, ours)),
        script=script,
        strict=_strict(folder, script) if foreign and script else StrictSpec(),
        asks_network=foreign or limits.network,
        user=compose.user,
        service=compose.name,
        services=compose.services,
        needs=compose.needs,
        healthcheck=compose.healthcheck,
    )


def variables(name: str) -> dict[str, str]:
    """Return what upstream fills into a compose file, with our places."""
    safe = name.replace(".", "-")
    return {
        "T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME": f"tb__{safe}__client".lower(),
        "T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME": safe,
        "T_BENCH_TASK_DOCKER_NAME_PREFIX": f"tb__{safe}".lower(),
        "T_BENCH_CONTAINER_LOGS_PATH": "/logs",
        "T_BENCH_TASK_LOGS_PATH": "/logs",
        "T_BENCH_CONTAINER_AGENT_LOGS_PATH": "/agent-logs",
        "T_BENCH_TASK_AGENT_LOGS_PATH": "/agent-logs",
        "T_BENCH_TEST_DIR": "/tests",
    }


def _compose(folder: Path) -> Compose:
    path = find_compose(folder)
    if path is None:
        return Compose(dockerfile="Dockerfile", context=folder)
    slug = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "task"
    return read_compose(path, variables=variables(folder.name), slug=slug, exclude=EXCLUDE)


def _script(folder: Path, top: Block) -> ScriptSpec | None:
    parser = next(p for p in PARSERS if p == top.choice("parser_name", PARSERS, "pytest"))
    script = folder / "run-tests.sh"
    if not script.is_file():
        if parser != "pytest":
            found = f"parser {parser!r} without a run-tests.sh to parse"
            raise top.wrong("parser_name", found, "Add run-tests.sh, or use 'pytest'.")
        return None
    return ScriptSpec(
        script="/tests/run-tests.sh",
        uploads=(script, *([folder / "tests"] if (folder / "tests").is_dir() else [])),
        parser=parser,
        timeout_s=top.number("max_test_timeout_sec", Limits().verifier_s),
        env={"TEST_DIR": "/tests"},
    )


def _strict(folder: Path, script: ScriptSpec) -> StrictSpec:
    plain = script.parser == "pytest" and suits_trusted_pytest(folder / "tests")
    return StrictSpec("pytest" if plain else "script", calibrated=False)


def suits_trusted_pytest(tests: Path) -> bool:
    """Whether pytest in the trusted runtime, with the standard library alone, can run all tests, by their text.

    Tests that speak of `/tests` are left to the script too: in the trusted runtime they lie elsewhere.
    """
    files = sorted(tests.rglob("*.py"))
    if any(b'"/tests' in path.read_bytes() or b"'/tests" in path.read_bytes() for path in files):
        return False
    own = {path.relative_to(tests).parts[0].removesuffix(".py") for path in files} | {"pytest", "_pytest"}
    return bool(files) and all(_imported(path) <= own | sys.stdlib_module_names for path in files)


def _imported(path: Path) -> set[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep
        return {"?"}
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


# ── the folder ──────────────────────────────────────────────────────────────────────────────────


def _name(folder: Path) -> str:
    if not NAME.fullmatch(folder.name):
        raise BadTaskFormat(
            folder, f"the folder's name {folder.name!r} cannot be an id", f"Use {NAME.pattern}."
        )
    return folder.name


def _check_tree(folder: Path) -> None:
    """Refuse a folder that lacks a required file, or holds a link or device that reaches out of it."""
    if not folder.is_dir():
        raise BadTaskFormat(folder, "no such folder", "Name a folder with a task.yaml.")
    if not (folder / "task.yaml").is_file():
        raise BadTaskFormat(folder / "task.yaml", "missing", "Terminal-Bench 1.0 folders have one.")
    if not (folder / "Dockerfile").is_file() and find_compose(folder) is None:
        raise BadTaskFormat(folder / "Dockerfile", "missing", "One line is enough: FROM <image>.")
    check_links(folder)


def check_links(folder: Path) -> None:
    """Refuse a link or device below `folder` that reaches out of it."""
    root = folder.resolve()
    for here, folders, files in os.walk(folder):
        for path in (Path(here, name) for name in folders + files):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode) and not _stays_inside(path, root):
                found = f"a link to {str(path.readlink())!r}, outside the folder"
                raise BadTaskFormat(path, found, "Copy the file into the folder.")
            if not (stat.S_ISLNK(mode) or stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise BadTaskFormat(path, "neither a file, a folder nor a link", "Remove it.")


def _stays_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a loop
        return False


def _image(folder: Path, compose: Compose, ours: Block) -> ImageRecipe:
    host = ours.block("host") or Block(ours.path, {}, {}, {}, ours.line, "terminal_gym.host.")
    host.refuse_unknown(("allowed", "commands"))
    commands, allowed = host.texts("commands"), host.flag("allowed", False)
    if compose.context is None:
        return ImageRecipe(compose.image, host_commands=commands, host_allowed=allowed)
    slug = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "task"
    made = built_image(compose.context, compose.dockerfile or "Dockerfile", slug=slug, exclude=EXCLUDE)
    return replace(made, host_commands=commands, host_allowed=allowed)


def built_image(context: Path, dockerfile: str, *, slug: str, exclude: tuple[str, ...] = ()) -> ImageRecipe:
    """Return the recipe of a Dockerfile; one that only names a finished image is never built.

    Raises:
        BadTaskFormat: There is no such file, or nothing in it.
    """
    path = context / dockerfile
    if not path.is_file():
        raise BadTaskFormat(path, "missing", "One line is enough: FROM <image>.")
    lines = [line.strip() for line in read_text(path).splitlines()]
    body = [line for line in lines if line and not line.startswith("#")]
    if not body:
        raise BadTaskFormat(path, "no instruction", "One line is enough: FROM <image>.", line=1)
    only_from = re.fullmatch(r"FROM\s+([^\s$]+)(\s+AS\s+\S+)?", body[0], re.IGNORECASE)
    if only_from and len(body) == 1:  # a finished image: pulled or found, never built
        return ImageRecipe(only_from[1])
    tag = tree_hash(context, exclude=exclude)[:12]
    return ImageRecipe(f"tgym/{slug}:{tag}", context, dockerfile, exclude=exclude)


def _solution(folder: Path, stem: str) -> Solution | None:
    """Return `<stem>.sh`, else `<stem>.yaml`, else None; the script wins, as upstream."""
    script, keys = folder / f"{stem}.sh", folder / f"{stem}.yaml"
    if script.is_file():
        return Solution(script=read_text(script))
    return Solution(keystrokes=tuple(map(_keystrokes, read_mappings(keys)))) if keys.is_file() else None


def _keystrokes(entry: Block) -> Keystrokes:
    entry.refuse_unknown(("command", "append_enter", "block", "min_timeout_sec", "max_timeout_sec"))
    if not isinstance(entry.values.get("command"), str):
        raise entry.wrong("command", "'command' is not a string", "Write the keys in quotes.")
    return Keystrokes(
        command=str(entry.values["command"]),  # may be blank: a lone Enter
        append_enter=entry.flag("append_enter", True),
        block=entry.flag("block", False),
        min_timeout_s=entry.seconds("min_timeout_sec", 0.0),
        max_timeout_s=entry.number("max_timeout_sec", 180.0),
    )


# ── task.yaml ───────────────────────────────────────────────────────────────────────────────────


def _limits(top: Block, ours: Block, known: Limits) -> Limits:
    block = ours.block("limits") or Block(ours.path, {}, {}, {}, ours.line, "terminal_gym.limits.")
    block.refuse_unknown(LIMITS)
    return Limits(
        agent_s=top.number("max_agent_timeout_sec", known.agent_s),
        verifier_s=top.number("max_test_timeout_sec", known.verifier_s),
        steps=block.whole("steps", 1) if "steps" in block.values else None,
        cpus=block.number("cpus", known.cpus),
        memory_mb=block.whole("memory_mb", known.memory_mb),
        pids=block.whole("pids", known.pids),
        disk_mb=block.whole("disk_mb", known.disk_mb),
        network=block.flag("network", known.network),
    )


def _validator(folder: Path, ours: Block, script: ScriptSpec | None) -> ValidatorSpec:
    tests = folder / "tests"
    files = [p for p in tests.rglob("*.py") if p.name.startswith("test_") or p.stem.endswith("_test")]
    if not files and script is None:
        raise BadTaskFormat(tests, "no test_*.py", "Write tests/test_outputs.py.")
    mode = next(m for m in MODES if m == ours.choice("mode", MODES, "restart"))
    artifacts = tuple(_absolute(ours, "artifacts", path) for path in ours.texts("artifacts"))
    if (mode == "artifacts") != bool(artifacts):
        found = f"mode {mode!r} with {len(artifacts)} artifacts"
        raise ours.wrong("artifacts", found, "Mode 'artifacts' lists the paths to judge; no other mode does.")
    return ValidatorSpec(
        tests=tests,
        mode=mode,
        artifacts=artifacts,
        expected=tuple(_expected(folder, ours, node) for node in ours.texts("expected")),
        tested_code_user="root" if _user(ours) == "root" else "nobody",
        own_conftest=ours.flag("own_conftest", False),
    )


def _user(ours: Block) -> str:
    return ours.choice("tested_code_user", ("nobody", "root"), "nobody")


def _expected(folder: Path, ours: Block, node: str) -> str:
    file, separator, test = node.partition("::")
    if not (separator and test) or ".." in Path(file).parts or not (folder / "tests" / file).is_file():
        raise ours.wrong(
            "expected", f"{node!r} names no test below tests/", "Write test_outputs.py::test_name."
        )
    return node


def _absolute(block: Block, key: str, path: str) -> str:
    """Return `path` if it is absolute, plain, and not part of what the sandbox itself mounts."""
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or len(parts) < 2 or ".." in parts or "\0" in path or parts[0] != "/":
        raise block.wrong(key, f"{path!r} is not a plain absolute path below /", "Write e.g. /app/out.json.")
    if parts[1] in ("tg", "proc", "sys", "dev"):
        raise block.wrong(key, f"{path!r} is under /{parts[1]}", "That is the sandbox's own; use another.")
    return str(PurePosixPath(path))


def _metadata(folder: Path, top: Block, ours: Block) -> dict[str, object]:
    """Return every key that is not interpreted, and the instance's provenance where there is one."""
    top.choice("difficulty", DIFFICULTIES, "unknown")
    top.texts("tags")
    labels: dict[str, object] = {k: v for k, v in top.values.items() if k not in INTERPRETED}
    if "domain" in ours.values:
        labels["domain"] = ours.text("domain")
    info = folder / "item_info.json"
    if info.is_file():
        try:
            labels["item_info"] = json.loads(read_text(info))
        except (ValueError, RecursionError) as error:
            line = getattr(error, "lineno", None)
            raise BadTaskFormat(info, f"not JSON: {error}", "Mend the syntax there.", line=line) from error
    return labels
