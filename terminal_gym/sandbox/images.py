"""Images on an Engine: describe one, build a recipe with the classic builder, put the trusted tree into a volume."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound
from docker.utils import parse_repository_tag
from docker.utils.build import exclude_paths

from terminal_gym.errors import BuildFailed, ImageMissing, RuntimeUnavailable, SandboxError
from terminal_gym.sandbox import bootstrap
from terminal_gym.sandbox.base import Image
from terminal_gym.sandbox.engine import Engine
from terminal_gym.sandbox.reaper import LABEL, current_owner
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.trusted_runtime.tree import GUEST, TrustedTree

SUBSTITUTED = "terminal-gym.substituted"  # image label: what stands in for an upstream base image
TRUSTED = "terminal-gym.trusted"  # volume label: hash of the tree in it; kept for later sandboxes
Log = Callable[[str], None]
_ARG = re.compile(r"^\s*ARG\s+(?P<name>\w+)=(?P<value>\S*)", re.I | re.M)
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|(?P<bare>\w+))")
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(?P<base>\S+)(?:\s+AS\s+(?P<stage>\S+))?\s*$", re.I | re.M)
_RACE = 'unable to find image "sha256:'  # what a build dies of while other images are being removed
_BUILDS = 5  # tries of one that dies so
_TAIL = 4000
_SILENT_S = 3600  # a command of a build that prints nothing for longer is taken for hung


def described(name: str, found: Mapping[str, Any]) -> Image:
    """Return the Image of what the Engine says about it."""
    config = found.get("Config") or {}
    env = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
    labels = config.get("Labels") or {}
    return Image(
        name,
        str(found["Id"]),
        env,
        config.get("WorkingDir") or "/",
        config.get("User") or "",
        labels.get(SUBSTITUTED, ""),
    )


def names(name: str, mirror: str) -> tuple[str, ...]:
    """Return the names under which the Engine may hold an image: its own, and that of the mirror.

    The mirror has it under its path there: `debian:12` is `MIRROR/library/debian:12`, `quay.io/a/b@sha256:…` is
    `MIRROR/a/b@sha256:…`.
    """
    if not mirror:
        return (name,)
    host, slash, path = name.partition("/")
    if not slash:
        return name, f"{mirror}/library/{name}"
    has_host = "." in host or ":" in host or host == "localhost"
    return name, f"{mirror}/{path if has_host else name}"


def build(engine: Engine, recipe: ImageRecipe, *, mirror: str = "", log: Log) -> None:
    """Build or pull the image of `recipe` under its name; one pulled by digest from a mirror keeps the mirror's.

    Raises:
        BuildFailed: The recipe does not build; the end of the build's output comes with it.
        ImageMissing: It is pulled, not built, and no registry gives it.
    """
    if recipe.context is None:
        _have_base(engine, recipe.name, mirror=mirror, log=log)
        return
    if recipe.prebuilt:
        if _mapped(engine, recipe.name, log=log) or (
            mirror and _pull_from(engine, recipe.name, mirror, log=log)
        ):
            return
        if not (failed := _pull(engine, recipe.name)):
            return
    dockerfile = recipe.context / recipe.dockerfile
    for base in bases(dockerfile.read_text(encoding="utf-8")):
        _have_base(engine, base, mirror=mirror, log=log)
    labels = {}
    if recipe.prebuilt:
        log(f"{recipe.name} cannot be pulled ({failed}); building it from its Dockerfile")
        labels = {SUBSTITUTED: f"{recipe.name} built here from its Dockerfile, not pulled"}
    for _ in range(_BUILDS):
        error, tail = _built(engine, recipe, log=log, labels=labels)
        if _RACE not in error:
            break
    if error:
        raise BuildFailed(f"{dockerfile} does not build: {error}", log_tail=tail)


def _built(engine: Engine, recipe: ImageRecipe, *, log: Log, labels: Mapping[str, str]) -> tuple[str, str]:
    """(error, "" where it was built; the end of the output)"""
    tail = ""
    with engine.calling(f"build {recipe.name}"):
        for message in engine.client.build(
            fileobj=io.BytesIO(context_tar(recipe)),
            custom_context=True,
            dockerfile=recipe.dockerfile,
            tag=recipe.name,
            labels=dict(labels) or None,
            rm=True,
            forcerm=True,
            timeout=_SILENT_S,
            decode=True,
        ):
            text = str(message.get("stream") or message.get("status") or "")
            tail = (tail + text)[-_TAIL:]
            if text.strip():
                log(text.rstrip())
            if "error" in message:
                return str(message["error"]), tail
    return "", tail


def bases(dockerfile: str) -> list[str]:
    """Return the images that a Dockerfile stands on, without its own stages, `scratch` and what only a build knows."""
    stages = list(_FROM.finditer(dockerfile))
    head = dockerfile[: stages[0].start()] if stages else ""
    arguments = {line["name"]: line["value"].strip("\"'") for line in _ARG.finditer(head)}

    def value(found: re.Match[str]) -> str:
        return arguments.get(found["braced"] or found["bare"], found["default"] or found[0])

    found: list[str] = []
    known = {"scratch"}
    for line in stages:
        base = _VARIABLE.sub(value, line["base"])
        if base.lower() not in known and base not in found and "$" not in base:
            found.append(base)
        known.add((line["stage"] or "").lower())
    return found


def context_tar(recipe: ImageRecipe) -> bytes:
    """Return the build context as a tar, without what `recipe.exclude` and .dockerignore name."""
    assert recipe.context is not None
    ignore = recipe.context / ".dockerignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    patterns += [*recipe.exclude, f"!{recipe.dockerfile}"]
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in sorted(exclude_paths(str(recipe.context), patterns, dockerfile=recipe.dockerfile)):
            if name and name != ".dockerignore":
                tar.add(recipe.context / name, name, recursive=False, filter=_plain)
    return made.getvalue()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same bytes for the same files: the layer cache compares owners and, in part, times."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def _have_base(engine: Engine, name: str, *, mirror: str, log: Log) -> None:
    with engine.calling(f"inspect {name}"):
        try:
            engine.client.inspect_image(name)
            return
        except ImageNotFound:
            pass
    if _mapped(engine, name, log=log):
        return
    if mirror and _pull_from(engine, name, mirror, log=log):
        return
    if not (failed := _pull(engine, name)):
        return
    log(f"{name} cannot be pulled ({failed}); trying to bootstrap it")
    recipe = bootstrap.recipe_for(name)
    if recipe is None:
        found = f"{name} cannot be pulled: {failed}. Nothing is known that can stand in."
        raise ImageMissing(f"{found} Pull it where a registry answers, or build on debian:* here.")
    with bootstrap.made(recipe, log=log) as archive:
        _import(engine, archive, name, recipe)


def _mapped(engine: Engine, name: str, *, log: Log) -> bool:
    """Give what the mapping file names for `name` that name, with a label that says so; whether it names anything.

    Raises:
        ImageMissing: It names an image that is not here.
    """
    local = bootstrap.mapped(name)
    if local is None:
        return False
    _have_base(engine, local, mirror="", log=log)
    log(f"{local} stands in for {name}")
    lines = f"FROM {local}\nLABEL {SUBSTITUTED}={json.dumps(f'{local} in place of {name}')}\n"
    with engine.calling(f"name {local} as {name}"):
        for message in engine.client.build(
            fileobj=io.BytesIO(lines.encode()), tag=name, rm=True, forcerm=True, decode=True
        ):
            if "error" in message:
                raise BuildFailed(f"{local} cannot stand in for {name}: {message['error']}")
    return True


def _pull_from(engine: Engine, name: str, mirror: str, *, log: Log) -> bool:
    """Pull an image from the mirror, and give it its own name where that is a tag; returns whether it has it."""
    there = names(name, mirror)[1]
    if failed := _pull(engine, there):
        log(f"{there} cannot be pulled ({failed})")
        return False
    if "@" not in name:
        repository, tag = parse_repository_tag(name)
        with engine.calling(f"tag {name}"):
            engine.client.tag(there, repository, tag or "latest")
            engine.client.remove_image(there)  # the name alone: the image has another now
    return True


def _pull(engine: Engine, name: str) -> str:
    """Pull an image; returns why that failed, "" where it did not."""
    try:
        with engine.calling(f"pull {name}"):
            for message in engine.client.pull(name, stream=True, decode=True):
                if "error" in message:  # of a reply that began well
                    return str(message["error"])
            engine.client.inspect_image(name)
    except SandboxError as error:
        return str(error)
    return ""


def _import(engine: Engine, archive: Path, name: str, recipe: bootstrap.Recipe) -> None:
    changes = [f"LABEL {SUBSTITUTED}={recipe.describes!r}", 'CMD ["bash"]']
    changes += [f"ENV {entry}" for entry in recipe.env]
    changes += [f"WORKDIR {recipe.workdir}"] if recipe.workdir else []
    # The tag goes into the name: Podman does not look at the parameter of its own.
    full = name if parse_repository_tag(name)[1] else f"{name}:latest"
    with engine.calling(f"import {name}"):
        said: str = engine.client.import_image_from_file(str(archive), repository=full, changes=changes)
    if '"error"' in said:
        raise BuildFailed(f"{name} cannot be imported", log_tail=said[-_TAIL:])


def tree_volume(engine: Engine, tree: TrustedTree, image: str) -> str:
    """Return the name of a volume that holds the trusted tree, on an Engine that cannot see this machine's files."""
    name = f"tgym-trusted-{tree.hash[:16]}"
    with engine.calling("fill the trusted volume"):
        client = engine.client
        client.create_volume(name, labels={TRUSTED: tree.hash})
        host = client.create_host_config(binds=[f"{name}:{GUEST}"])
        owner = {LABEL: str(current_owner())}
        helper = client.create_container(image, ["true"], host_config=host, labels=owner)["Id"]
        try:
            engine.get(f"/containers/{helper}/archive", {"path": f"{GUEST}/tree.sha256"}).close()
        except NotFound:
            client.put_archive(helper, GUEST, _tree_tar(tree))
        except APIError as error:
            raise RuntimeUnavailable(f"the trusted runtime cannot be sent to the engine: {error}") from error
        finally:
            client.remove_container(helper, force=True)
    return name


def _tree_tar(tree: TrustedTree) -> bytes:
    """The hash file goes last: a volume that holds it is whole."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        names = sorted(tree.path.rglob("*"), key=lambda path: (path.name == "tree.sha256", path))
        for path in names:
            tar.add(path, path.relative_to(tree.path).as_posix(), recursive=False, filter=_plain)
    return made.getvalue()
