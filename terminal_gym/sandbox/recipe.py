"""A Dockerfile, built without a daemon: each instruction runs in namespaces over the layers made so far.

Understood: FROM [AS], RUN (shell and exec form, here-documents not), COPY and ADD of local files (--from, --chown,
--chmod), ENV, ARG, WORKDIR, USER; LABEL, CMD, ENTRYPOINT, EXPOSE, SHELL, VOLUME, STOPSIGNAL, HEALTHCHECK and MAINTAINER
are read and not used. Anything else is refused by file and line. A layer is named after everything it depends on,
so an unchanged instruction is not run again. Source: Dockerfile reference, "parser" format 1.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import posixpath
import re
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from terminal_gym.errors import BuildFailed, ImageMissing, TerminalGymError
from terminal_gym.sandbox import bootstrap, dockerfile, images, keeper, launch
from terminal_gym.sandbox.engine import Engine
from terminal_gym.sandbox.rootfs import HOST, Store, Stored, host_image, load, unpack_layer
from terminal_gym.tasks.image import ImageRecipe

_RUN_S = 1800.0
_TAIL = 4000
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Log = Callable[[str], None]
# Runs inside the sandbox, so links in the image lead nowhere but into the image.
_UNPACK = """
import os, sys, tarfile
folder, owner = os.path.realpath(sys.argv[1]), sys.argv[2]
os.makedirs(folder, exist_ok=True)
who = None  # the tar's: root for what was copied, an archive's own for what ADD unpacks
if owner:
    sys.path.insert(0, "/tg/guest")
    import accounts
    who = accounts.resolve(owner)
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
    for entry in tar:
        path = os.path.join(folder, entry.name)
        if entry.isdir():
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if os.path.lexists(path):
                os.unlink(path)
            tar.extract(entry, folder, set_attrs=False)
        try:
            os.chown(path, who.uid if who else entry.uid, who.gid if who else entry.gid, follow_symlinks=False)
        except OSError:
            pass
        if not entry.issym():
            os.chmod(path, entry.mode & 0o7777)
"""


class RunAlone(Protocol):
    """Runs arguments of the trusted interpreter over a root; what it writes is left in `into`/m/u."""

    def __call__(
        self, root: keeper.Rootfs, argv: list[str], *, into: Path, network: bool, stdin: bytes
    ) -> tuple[int, bytes]: ...


@dataclass(frozen=True)
class Stage:
    """An image on its way."""

    stored: Stored
    args: dict[str, str] = field(default_factory=dict)  # ARG values, for RUN and substitution

    @property
    def variables(self) -> dict[str, str]:
        return self.args | self.stored.env


class Builder:
    """Builds recipes into one store."""

    def __init__(self, store: Store, run_alone: RunAlone, *, host: bool, log: Log):
        self._store, self._run_alone, self._host, self._log = store, run_alone, host, log

    def build(self, recipe: ImageRecipe) -> Stored:
        """Make the image of `recipe`, or return it where it exists.

        The host's root stands in for the stage `base` where the recipe allows it and this machine has every
        command it names; an image already built on a real base is preferred.

        Raises:
            BuildFailed: It does not build.
            ImageMissing: It is not built but pulled, and cannot be had here.
        """
        if (found := self._store.find(recipe.name, host=False)) is not None:
            return found
        on_host = self._host and recipe.host_allowed and not missing_commands(recipe.host_commands)
        if on_host and (found := self._store.find(recipe.name, host=True)) is not None:
            return found
        if recipe.context is None:
            base = host_image(self._store) if on_host else self._base(recipe, recipe.name)
            return self._store.put(replace(base, name=recipe.name))
        stage = self._follow(recipe, on_host=on_host)
        return self._store.put(replace(stage.stored, name=recipe.name))

    def _follow(self, recipe: ImageRecipe, *, on_host: bool) -> Stage:
        assert recipe.context is not None
        file = recipe.context / recipe.dockerfile
        stages: dict[str, Stage] = {}
        stage: Stage | None = None
        early: dict[str, str] = {}
        skipping = False
        for at in dockerfile.parse(file):
            if at.name == "FROM":
                name, called = dockerfile.base_of(dockerfile.substitute(at.text, early), file, at)
                skipping = on_host and called == "base"
                if skipping:
                    stage = Stage(host_image(self._store))
                elif name in stages:
                    stage = Stage(stages[name].stored)
                else:
                    stage = Stage(self._base(recipe, name))
                stages[called or str(len(stages))] = stage
                last = called or str(len(stages) - 1)
                continue
            if stage is None:
                if at.name != "ARG":
                    raise BuildFailed(f"{file}:{at.line}: {at.name} stands before the first FROM.")
                early |= dockerfile.argument(at.text, early)
                continue
            if not skipping:
                self._log(f"{file.name}:{at.line} {at.name} {at.text[:100]}")
                stage = stages[last] = self._carry_out(recipe, file, at, stage, stages)
        if stage is None:
            raise BuildFailed(f"{file} has no FROM.")
        return stage

    def _carry_out(
        self,
        recipe: ImageRecipe,
        file: Path,
        at: dockerfile.Instruction,
        stage: Stage,
        stages: dict[str, Stage],
    ) -> Stage:
        stored = stage.stored
        if at.name == "RUN":
            return self._run(file, at, stage)
        text = dockerfile.substitute(at.text, stage.variables)
        if at.name in ("COPY", "ADD"):
            return self._copy(recipe, file, at, text, stage, stages)
        if at.name == "ENV":
            return replace(stage, stored=replace(stored, env=stored.env | dockerfile.pairs(text)))
        if at.name == "ARG":
            return replace(stage, args=stage.args | dockerfile.argument(at.text, stage.variables))
        if at.name == "USER":
            return replace(stage, stored=replace(stored, user=text))
        if at.name == "WORKDIR":
            folder = str(PurePosixPath(stored.workdir, text))
            made = replace(stage, stored=replace(stored, workdir=folder))
            argv = ["-c", "import os, sys; os.makedirs(os.path.realpath(sys.argv[1]), exist_ok=True)", folder]
            return self._layer(file, at, made, argv, key=folder)
        if at.name in dockerfile.WITHOUT_FILES:
            return stage
        raise BuildFailed(
            f"{file}:{at.line}: the namespace runtime does not know {at.name}. Use docker for it."
        )

    def _run(self, file: Path, at: dockerfile.Instruction, stage: Stage) -> Stage:
        if "<<" in at.text and re.match(r"<<-?\s*\w+\s*$", at.text):
            raise BuildFailed(f"{file}:{at.line}: here-documents are not known here. Use docker, or `&&`.")
        text = re.sub(r"^(--(mount|network|security)=\S+\s+)+", "", at.text)
        exec_form = dockerfile.exec_form(text)
        argv = exec_form or ["/bin/sh", "-c", text]
        stored = stage.stored
        env = {"PATH": _PATH, "DEBIAN_FRONTEND": "noninteractive"} | stage.variables
        running = launch.helper(argv, timeout_s=_RUN_S, user=stored.user, env=env, cwd=stored.workdir)
        key = json.dumps([argv, env, stored.user, stored.workdir])
        return self._layer(file, at, stage, running, key=key, network=True)

    def _copy(
        self,
        recipe: ImageRecipe,
        file: Path,
        at: dockerfile.Instruction,
        text: str,
        stage: Stage,
        stages: dict[str, Stage],
    ) -> Stage:
        options, words = dockerfile.options(dockerfile.exec_form(text) or shlex.split(text))
        if len(words) < 2:
            raise BuildFailed(f"{file}:{at.line}: {at.name} needs a source and a destination.")
        unknown = set(options) - {"from", "chown", "chmod", "link"}
        if unknown or any(re.match(r"(https?|git|ssh)://", word) for word in words[:-1]):
            raise BuildFailed(
                f"{file}:{at.line}: {at.name} with {unknown or 'an address'} is not known here."
            )
        target = str(PurePosixPath(stage.stored.workdir, words[-1])) + (
            "/" if words[-1].endswith("/") else ""
        )
        is_folder = words[-1].endswith(("/", "/.")) or words[-1] == "." or len(words) > 2
        with tempfile.TemporaryDirectory(dir=self._store.empty_layer().parent, prefix=".draft-") as work:
            if "from" in options:
                source = self._taken_out(recipe, options["from"], words[:-1], stages, Path(work), file, at)
                names = None
            else:
                assert recipe.context is not None
                source, names = recipe.context, set(_context_names(recipe))
            try:
                archive, folder = dockerfile.packed(
                    source, words[:-1], target, is_folder=is_folder, names=names, unpacks=at.name == "ADD"
                )
            except FileNotFoundError as error:
                raise BuildFailed(f"{file}:{at.line}: {error.args[0]} is not in the build context.") from None
        data = dockerfile.with_mode(archive, options.get("chmod", ""))
        argv = ["-c", _UNPACK, folder, options.get("chown", "")]
        key = hashlib.sha256(data).hexdigest() + folder + options.get("chown", "")
        key += " owners" if at.name == "ADD" else ""  # a layer in the store may be older than they
        return self._layer(file, at, stage, argv, key=key, stdin=data)

    def _taken_out(
        self,
        recipe: ImageRecipe,
        name: str,
        paths: list[str],
        stages: dict[str, Stage],
        work: Path,
        file: Path,
        at: dockerfile.Instruction,
    ) -> Path:
        """Return a folder that holds `paths` of another stage or image, as they lie there."""
        other = stages[name].stored if name in stages else self._base(recipe, name)
        for path in paths:
            inner = PurePosixPath(posixpath.normpath(f"/{path}"))
            (work / "into").mkdir()
            argv = ["/tg/guest/archive.py", "pack", str(inner), str(4 << 30)]
            code, out = self._run_alone(
                self._store.rootfs(other), argv, into=work / "into", network=False, stdin=b""
            )
            if code != 0:
                raise BuildFailed(f"{file}:{at.line}: {path} cannot be copied from {name}.")
            _remove_into(work / "into")
            place = work / "root" / str(inner.parent).lstrip("/")
            # What was taken out before may be a link: this is the host, where it leads elsewhere.
            if not place.resolve().is_relative_to((work / "root").resolve()):
                raise BuildFailed(f"{file}:{at.line}: {path} lies behind a link. Name where it leads.")
            place.mkdir(parents=True, exist_ok=True)
            unpack_layer(io.BytesIO(out), place)
        return work / "root"

    def _layer(
        self,
        file: Path,
        at: dockerfile.Instruction,
        stage: Stage,
        argv: list[str],
        *,
        key: str,
        network: bool = False,
        stdin: bytes = b"",
    ) -> Stage:
        """Run `argv` over the stage's layers; what it wrote becomes a layer on top."""
        stored = stage.stored
        facts = [at.name, key, stored.layers, stored.host_facts]
        name = "b" + hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:23]
        with self._store.draft(name) as layer:
            if layer is not None:
                into = layer.parent / "into"
                into.mkdir()
                try:
                    code, out = self._run_alone(
                        self._store.rootfs(stored), argv, into=into, network=network, stdin=stdin
                    )
                    text = out.decode(errors="replace")
                    for line in text.splitlines():
                        self._log(line)
                    if code != 0:
                        advice = _advice(text)
                        message = f"{file}:{at.line}: {at.name} ended with {code}.{advice}"
                        raise BuildFailed(message, log_tail=text[-_TAIL:])
                    _collect(into / "m" / "u", layer)
                finally:
                    _remove_into(into)
        return replace(stage, stored=replace(stored, layers=(name, *stored.layers)))

    def _base(self, recipe: ImageRecipe, name: str) -> Stored:
        """Return the image that a stage stands on: from the store, a local Docker Engine, or a package archive."""
        if name == "scratch":
            return Stored("scratch")
        if name == HOST:
            return host_image(self._store)
        if (found := self._store.find(name, host=False)) is not None:
            return found
        if (found := self._from_engine(name)) is not None:
            return found
        known = bootstrap.recipe_for(name)
        missing = missing_commands(recipe.host_commands) if recipe.host_allowed else ()
        lacks = f" The host's root cannot stand in: {', '.join(missing)} missing." if missing else ""
        if known is None:
            advice = "Load it (`docker save`), or build on debian:* here."
            raise ImageMissing(
                f"{name} is not in the store, and nothing is known that can stand in. {advice}{lacks}"
            )
        try:
            with bootstrap.made(known, log=self._log) as archive:
                key = "m" + hashlib.sha256(f"{name} {known.describes}".encode()).hexdigest()[:23]
                with self._store.draft(key) as layer:
                    if layer is not None:
                        with archive.open("rb") as stream:
                            unpack_layer(stream, layer)
        except BuildFailed as error:
            raise BuildFailed(f"{error}{lacks} A docker-archive of {name} can be loaded instead.") from error
        return self._store.put(Stored(name, (key,), substituted=known.describes))

    def _from_engine(self, name: str) -> Stored | None:
        """Take `name` over from a Docker Engine, so that both runtimes run the same instances."""
        try:
            engine = Engine("docker", "", "")
            with engine.calling(f"inspect {name}"):
                engine.client.inspect_image(name)
            with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
                self._log(f"taking {name} over from the Docker Engine")
                with engine.calling(f"save {name}"):
                    for chunk in engine.client.get_image(name):
                        archive.write(chunk)
                archive.flush()
                return load(self._store, Path(archive.name), name)
        except (TerminalGymError, OSError):
            return None
        except Exception as error:  # the engine's own refusals: it has no such image, or denies us
            if type(error).__module__.startswith("docker"):
                return None
            raise


def missing_commands(commands: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of `commands` the host's root, as sandboxes see it, does not have."""
    return tuple(name for name in commands if shutil.which(name, path=_PATH) is None)


def _context_names(recipe: ImageRecipe) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(images.context_tar(recipe))) as tar:
        return tar.getnames()


# ── layers ──────────────────────────────────────────────────────────────────────────────────────


def _collect(upper: Path, layer: Path) -> None:
    """Move what was written into `layer`: one overlay's upper folder, and those of the host's folders into it."""
    (upper / keeper.ROOT_UPPER).rename(layer / "moved")
    for path in (layer / "moved").iterdir():
        path.rename(layer / path.name)
    (layer / "moved").rmdir()
    for path in upper.iterdir():
        if (layer / path.name).is_dir():
            (layer / path.name).rmdir()
        path.rename(layer / path.name)
    for name in keeper.PRESET:
        (layer / name).unlink(missing_ok=True)
    etc = layer / "etc"
    if etc.is_dir() and not etc.is_symlink() and not any(etc.iterdir()):
        etc.rmdir()


def _remove_into(folder: Path) -> None:
    for place, names, _ in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not path.is_symlink():
                path.chmod(0o700)  # an overlay's work folder denies even its owner
    shutil.rmtree(folder)


def _advice(text: str) -> str:
    if os.geteuid() != 0 and re.search(r"Invalid argument|Operation not permitted|setgroups|chown", text):
        return " An ordinary user has one uid here, so changing owners fails: build as root, or use docker."
    return ""
