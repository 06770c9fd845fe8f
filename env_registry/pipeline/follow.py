"""A Dockerfile of a stranger's, followed in sandboxes: every instruction runs within the bounds of a build.

No daemon builds it, for that would run it as root outside these bounds. Each stage is a sandbox over its base image,
root's inside unless USER says otherwise; what the last one wrote above that image is its layer (layer.py).

Rejections: base-image (it cannot be had here), and those of every build (bounded.py).
"""

from __future__ import annotations

import io
import posixpath
import re
import secrets
import shlex
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from env_registry.pipeline import layer
from env_registry.pipeline.bounded import (
    LOG,
    PATH,
    Tried,
    Watch,
    add_file,
    certificates,
    limits,
    ran,
    variables,
)
from env_registry.pipeline.own_dockerfile import NAME, OPTION, Stage, words_of
from env_registry.pipeline.settings import Build
from env_registry.pipeline.stage import Rejected
from terminal_gym.errors import BuildFailed, ImageMissing, OversizedArchive, SandboxError
from terminal_gym.sandbox import dockerfile
from terminal_gym.sandbox.base import Runtime, Sandbox, SandboxSpec, Snapshot
from terminal_gym.sandbox.dockerfile import Instruction
from terminal_gym.sandbox.images import context_tar
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.trusted_runtime.orders import ShellOrders

_HELPER_S = 60.0  # for what we run ourselves in the sandbox
_LISTED, _ADDED = "/tgym-build/owned", "/tgym-build/added"
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")


@dataclass(frozen=True)
class Followed:
    """What came of a Dockerfile."""

    tried: Tried  # its archive: a tar of /app, with the repository where the Dockerfile left none of it
    base: str = ""  # the image that the layer lies over
    gone: tuple[str, ...] = ()  # paths of the base that are no longer there
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Machine:
    """A stage at work."""

    sandbox: Sandbox
    watch: Watch
    base: str  # the image under it
    workdir: str
    user: str
    env: dict[str, str]
    args: dict[str, str] = field(default_factory=dict)
    snapshot: Snapshot | None = None

    @property
    def values(self) -> dict[str, str]:
        return self.args | self.env


class Follower:
    """Follows one Dockerfile.

    Args:
        wanted: The bounds of each stage; the time is that of all together.
        runtime: Where it runs.
        folder: The repository.
        name: Of the sandboxes.
        into: A file for the layer.

    Raises:
        Rejected: "dockerfile": its .dockerignore cannot be read.
    """

    def __init__(self, wanted: Build, runtime: Runtime, folder: Path, *, name: str, into: Path):
        self._wanted, self._runtime, self._folder, self._name = wanted, runtime, folder, name
        self._into = into
        self._ends = time.monotonic() + wanted.timeout_s
        self._log = bytearray()
        self._machines: dict[str, _Machine] = {}
        try:
            recipe = ImageRecipe("", folder, NAME)
            with tarfile.open(fileobj=io.BytesIO(context_tar(recipe)), errors="surrogateescape") as tar:
                self._context = set(tar.getnames())
        except (OSError, ValueError, re.error) as error:
            raise Rejected("dockerfile", f".dockerignore cannot be read: {error}") from error

    def follow(self, stages: list[Stage]) -> Followed:
        """Return what came of it.

        Raises:
            Rejected: "base-image", or "dockerfile".
            SandboxError: The machine failed.
        """
        try:
            with ExitStack() as stack:
                return self._followed(stages, stack)
        except SandboxError:
            if not any(machine.watch.is_full for machine in self._machines.values()):
                raise
            full = f"more than {self._wanted.disk_mb} MiB were written"
            return Followed(Tried("disk-full", full, self._told))

    @property
    def _told(self) -> bytes:
        return bytes(self._log[-LOG:])

    def _followed(self, stages: list[Stage], stack: ExitStack) -> Followed:
        later = {stage.base for stage in stages}
        for stage in stages:
            machine = self._started(stage, stack)
            for step in stage.steps:
                self._log += f"{NAME}:{step.line} {step.name} {step.text[:200]}\n".encode()
                try:
                    tried = self._carry_out(machine, step)
                except ValueError as error:  # of a quote that is not closed
                    tried = Tried("dockerfile", f"{step.name} cannot be read: {error}", b"")
                self._log += tried.log
                if tried.reason:
                    return Followed(
                        replace(tried, detail=f"line {step.line}: {tried.detail}", log=self._told)
                    )
            if later & set(stage.names):
                machine.snapshot = stack.enter_context(machine.sandbox.snapshot())
            machine.sandbox.stop()  # before anything is read: nothing of the build still runs
        return self._made(machine)

    def _started(self, stage: Stage, stack: ExitStack) -> _Machine:
        before = self._machines.get(stage.base)
        base = before.base if before else self._have(stage.base)
        spec = SandboxSpec(base, f"{self._name}-{secrets.token_hex(4)}", limits(self._wanted))
        source = before.snapshot if before else self._runtime
        assert source is not None
        sandbox = stack.enter_context(source.start(spec))
        image, watch = sandbox.image, Watch(sandbox, self._wanted.disk_mb << 20)
        if before is None:
            machine = _Machine(sandbox, watch, base, image.workdir, image.user, dict(image.env))
        else:
            machine = _Machine(sandbox, watch, base, before.workdir, before.user, dict(before.env))
        self._machines |= dict.fromkeys(stage.names, machine)
        sandbox.boot(ShellOrders(secrets.token_hex(8), cwd="/"))
        sandbox.write_archive(_beside())
        stack.enter_context(machine.watch)
        return machine

    def _have(self, base: str) -> str:
        if base == "scratch" or "$" in base:
            raise Rejected("base-image", f"{base} has no shell" if base == "scratch" else base)
        try:
            return self._runtime.build(ImageRecipe(base)).name
        except (ImageMissing, BuildFailed) as error:
            raise Rejected("base-image", str(error)) from error

    def _carry_out(self, machine: _Machine, step: Instruction) -> Tried:
        text = dockerfile.substitute(step.text, machine.values)
        if step.name == "RUN":
            plain = OPTION.sub("", step.text)
            return self._run(machine, dockerfile.exec_form(plain) or ["/bin/sh", "-c", plain])
        if step.name in ("COPY", "ADD"):
            return self._copy(machine, step)
        if step.name == "ENV":
            machine.env |= dockerfile.pairs(text)
        elif step.name == "ARG":
            machine.args |= dockerfile.argument(step.text, machine.values)
        elif step.name == "USER":
            machine.user = text
        elif step.name == "WORKDIR":
            machine.workdir = posixpath.normpath(posixpath.join(machine.workdir, text))
            return self._helper(machine, ["mkdir", "-p", machine.workdir])
        return Tried("", "", b"")

    def _run(self, machine: _Machine, argv: list[str]) -> Tried:
        home = "/root" if machine.user.partition(":")[0] in ("", "0", "root") else f"/home/{machine.user}"
        env = {
            "PATH": PATH,
            "HOME": home,
            "DEBIAN_FRONTEND": "noninteractive",
            **variables(),
            **machine.values,
        }
        left = self._ends - time.monotonic()
        if left <= 0:
            return Tried("build-timeout", f"not done after {self._wanted.timeout_s:.0f} s", b"")
        joined = ["/bin/sh", "-c", 'exec "$@" 2>&1', "sh", *argv]
        return ran(
            machine.sandbox,
            joined,
            self._wanted,
            machine.watch,
            timeout_s=left,
            user=machine.user,
            env=env,
            cwd=machine.workdir or "/",
        )

    def _helper(self, machine: _Machine, argv: list[str]) -> Tried:
        env = {"PATH": PATH}
        return ran(
            machine.sandbox, argv, self._wanted, machine.watch, timeout_s=_HELPER_S, user="", env=env, cwd="/"
        )

    # ── COPY and ADD ────────────────────────────────────────────────────────────────────────────

    def _copy(self, machine: _Machine, step: Instruction) -> Tried:
        options, words = words_of(step, machine.values)
        if len(words) < 2:
            return Tried("dockerfile", f"{step.name} needs a source and a destination", b"")
        target = posixpath.normpath(posixpath.join("/", machine.workdir, words[-1]))
        is_folder = words[-1].endswith(("/", "/.")) or words[-1] == "." or len(words) > 2
        is_folder = is_folder or not self._helper(machine, ["test", "-d", target]).reason
        if step.name == "ADD" and "from" not in options:
            archives = [word for word in words[:-1] if self._is_archive(word)]
            words = [word for word in words if word not in archives]
            for name in archives:
                if (tried := self._unpacked(machine, name, target)).reason or len(words) == 1:
                    return tried
        try:
            if "from" in options:
                archive, folder = self._from(options["from"], words[:-1], target, is_folder=is_folder)
            else:
                archive, folder = dockerfile.packed(
                    self._folder, words[:-1], target, is_folder=is_folder, names=self._context
                )
            archive = dockerfile.with_mode(archive, options.get("chmod", ""))
        except FileNotFoundError as error:
            return Tried("build-failed", f"{error.args[0]} is not there to be copied", b"")
        except (ValueError, OSError, OversizedArchive) as error:
            return Tried("build-failed", f"cannot be copied: {error}", b"")
        made = self._helper(machine, ["mkdir", "-p", folder])
        if made.reason:
            return made
        placed, names = _placed(archive, folder, owned=bool(options.get("chown")))
        machine.sandbox.write_archive(placed)
        if not options.get("chown") or not names:
            return made
        script = f"xargs -0 chown -h {shlex.quote(options['chown'])} < {_LISTED}"
        return self._helper(machine, ["/bin/sh", "-c", script])

    def _given(self, word: str) -> Path:
        """The path of a source in the repository; `..` ends at its top."""
        return self._folder / posixpath.normpath(f"/{word}").lstrip("/")

    def _is_archive(self, word: str) -> bool:
        path = self._given(word)
        is_known = path.relative_to(self._folder).as_posix() in self._context
        if not is_known or path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(512)
        return head.startswith(_COMPRESSED) or head[257:262] == b"ustar"

    def _unpacked(self, machine: _Machine, word: str, target: str) -> Tried:
        """Unpack an archive of the repository inside the sandbox: what it grows to is bounded there, and not here."""
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
            add_file(tar, _ADDED.lstrip("/"), self._given(word).read_bytes())
        machine.sandbox.write_archive(made.getvalue())
        script = f'mkdir -p "$0" && tar -xf {_ADDED} -C "$0" && rm {_ADDED}'
        return self._helper(machine, ["/bin/sh", "-c", script, target])

    def _from(self, name: str, paths: list[str], target: str, *, is_folder: bool) -> tuple[bytes, str]:
        """What stands in another stage or image, as `dockerfile.packed` returns it; nothing of it touches this host."""
        made, most = io.BytesIO(), self._wanted.disk_mb << 20
        folder = target if is_folder else posixpath.dirname(target) or "/"
        with ExitStack() as stack, tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as out:
            for path in paths:
                if (inner := posixpath.normpath(f"/{path}")) == "/":
                    raise ValueError("the whole of another stage")
                archive = self._other(name, stack).read_archive(inner, limit_bytes=most)
                if archive is None:
                    raise FileNotFoundError(path)
                for entry, body in _entries(archive):
                    rest = entry.name.partition("/")[2]
                    if entry.isdir() and not rest:
                        folder = target  # a folder's content is copied, not itself
                        continue
                    within = rest or (posixpath.basename(inner) if is_folder else posixpath.basename(target))
                    entry.name, entry.uid, entry.gid, entry.uname, entry.gname = within, 0, 0, "", ""
                    if entry.islnk():
                        entry.linkname = entry.linkname.partition("/")[2] or within
                    out.addfile(entry, body)
        return made.getvalue(), folder

    def _other(self, name: str, stack: ExitStack) -> Sandbox:
        known = self._machines.get(name.lower())
        if known is not None:
            return known.sandbox
        spec = SandboxSpec(self._have(name), f"{self._name}-{secrets.token_hex(4)}", limits(self._wanted))
        return stack.enter_context(self._runtime.start(spec))

    # ── what it leaves ──────────────────────────────────────────────────────────────────────────

    def _made(self, machine: _Machine) -> Followed:
        sandbox, most = machine.sandbox, self._wanted.disk_mb << 20
        try:
            app = sandbox.read_archive("/app", limit_bytes=most)
            gone = layer.written(sandbox, self._into, limit_bytes=most)
        except OversizedArchive as error:
            return Followed(Tried("disk-full", str(error), self._told))
        env = {name: value for name, value in machine.env.items() if sandbox.image.env.get(name) != value}
        whole = layer.with_repository(app or b"", self._folder)
        return Followed(Tried("", "", self._told, whole), machine.base, gone, env)


def _beside() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        add_file(tar, "tgym-build/certificates.pem", certificates())
    return made.getvalue()


def _entries(archive: bytes) -> Iterator[tuple[tarfile.TarInfo, io.BufferedIOBase | None]]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar:
        for entry in tar:
            if not entry.isdev() and ".." not in entry.name.split("/"):
                yield entry, tar.extractfile(entry) if entry.isreg() else None  # type: ignore[misc]


def _placed(archive: bytes, folder: str, *, owned: bool) -> tuple[bytes, list[str]]:
    """The same tar with its names below `folder`, and these names; where they get an owner, a list of them as well."""
    made, names = io.BytesIO(), list[str]()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as out:
        for entry, body in _entries(archive):
            if (inside := entry.name.strip("/")) in ("", "."):
                continue
            entry.name = posixpath.join(folder, inside).lstrip("/")
            if entry.islnk():
                entry.linkname = posixpath.join(folder, entry.linkname).lstrip("/")
            names.append(f"/{entry.name}")
            out.addfile(entry, body)
        if owned:
            listed = "\0".join(names).encode("utf-8", "surrogateescape")
            add_file(out, _LISTED.lstrip("/"), listed)
    return made.getvalue(), names
