"""Stage 3: candidates → images. What a stranger wrote runs in a sandbox, and nowhere else.

A repository with a Dockerfile of its own is built by that (own_dockerfile.py). Else a script is generated, and runs in
a sandbox over the system's toolchain image, as an ordinary user, within bounds of time, memory, processors, processes
and disk. What was left in /app is taken out as a tar and laid over the same image again: that is the repository's.

Rejections: no-build-system, build-failed, network, build-timeout, disk-full, smoke-failed; dockerfile and base-image.

WORK/logs/<slug>.log     the whole log, up to a megabyte
WORK/images/<slug>/      the image's recipe (images.py)
"""

from __future__ import annotations

import hashlib
import io
import secrets
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from env_registry.pipeline.bounded import PATH, Tried, Watch, add_file, certificates, limits, ran, variables
from env_registry.pipeline.collect import slug
from env_registry.pipeline.follow import Follower
from env_registry.pipeline.images import Images, added_bytes, write_recipe, write_toolchain
from env_registry.pipeline.layer import plain
from env_registry.pipeline.own_dockerfile import own_dockerfile, read_stages
from env_registry.pipeline.plan import Plan, plan_for, recipe, toolchain
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Rejected, Row
from terminal_gym.errors import BuildFailed, OversizedArchive, StartFailed
from terminal_gym.sandbox.base import Runtime, Sandbox, SandboxSpec
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.terminal_bench import built_image
from terminal_gym.trusted_runtime.orders import ShellOrders

USER = 61_000  # who builds
Repair = Callable[[Plan, str], Plan | None]  # (what failed, the end of its log) → what to try instead


class Builder:
    """Builds candidates on one runtime; safe to use from many threads.

    Args:
        settings: Of the pipeline.
        runtime: Where it builds, and where the images stay.
        repair: Asked after a failed build of a generated script; None: nobody is.
        images: Where the images made are held; None: on the runtime, without a bound.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        repair: Repair | None = None,
        *,
        images: Images | None = None,
    ):
        self._settings, self._runtime, self._repair = settings, runtime, repair
        self._images = images or Images(settings, runtime)
        self._mutex = threading.Lock()

    def __call__(self, candidate: Row) -> Mapping[str, Any]:
        """Return the cells of one candidate that was built; raises Rejected for one that was not."""
        folder, name = self._settings.work / candidate.cells["folder"], slug(candidate.key)
        came = {key: candidate.cells[key] for key in ("folder", "language", "score")}
        wanted = self._settings.build.dockerfile
        own = None if wanted == "generated" else own_dockerfile(folder)
        if own is None:
            return {**self._by_plan(name, folder), **came}
        try:
            return {**self._by_own(name, folder, own), **came}
        except Rejected:
            if wanted == "own":
                raise
        return {**self._by_plan(name, folder), **came}

    # ── by a plan ───────────────────────────────────────────────────────────────────────────────

    def _by_plan(self, name: str, folder: Path) -> dict[str, Any]:
        began, plan, rounds = time.monotonic(), plan_for(folder), 0
        while True:
            base = self._base(plan)
            tried = self._try(f"tgym-build-{name}-{secrets.token_hex(4)}", base, plan, folder)
            self._keep_log(f"{name}-{rounds}" if rounds else name, tried.log)
            if not tried.reason or self._repair is None or rounds >= self._settings.build.repair_rounds:
                break
            rounds += 1
            better = self._repair(plan, tried.log[-6_000:].decode("utf-8", "replace"))
            if better is None:
                break
            plan = better
        cells = {"system": plan.system, "rounds": rounds, "build_s": round(time.monotonic() - began, 2)}
        if tried.reason:
            raise Rejected(tried.reason, tried.detail, **cells)
        (self._folder(name) / "layer.tar").unlink(missing_ok=True)
        made = write_recipe(self._folder(name), name, base=base, archive=tried.archive)
        text = recipe(toolchain(plan.system, plan.packages), plan)
        return {**cells, **self._image(made), "dockerfile": text}

    def _base(self, plan: Plan) -> str:
        """The toolchain image, made where it is missing; one at a time, for they share layers.

        That it does not build is this machine's fault, not the repository's.
        """
        own = self._settings.build.bases.get(plan.system)
        if own is not None:
            return own
        text = toolchain(plan.system, plan.packages)
        more = hashlib.sha256(" ".join(plan.packages).encode()).hexdigest()[:8] if plan.packages else ""
        folder = self._settings.work / "toolchains" / (f"{plan.system}-{more}" if more else plan.system)
        with self._mutex:
            write_toolchain(folder, text)
            made = built_image(folder, "Dockerfile", slug=f"toolchain-{folder.name}")
            try:
                return self._runtime.build(made).name
            except BuildFailed as error:
                if plan.packages:  # that a model asked for
                    raise Rejected("build-failed", f"{error} {error.log_tail[-800:]}") from error
                found = f"the toolchain image of {plan.system} does not build: {error}"
                raise StartFailed(f"{found} {error.log_tail[-300:]}") from error

    def _try(self, name: str, base: str, plan: Plan, folder: Path) -> Tried:
        wanted = self._settings.build
        with self._runtime.start(SandboxSpec(base, name, limits(wanted))) as sandbox:
            sandbox.boot(ShellOrders(secrets.token_hex(8), cwd="/"))
            sandbox.write_archive(_context(folder, plan))
            with Watch(sandbox, wanted.disk_mb << 20) as watch:
                built = self._run(sandbox, "build.sh", wanted.timeout_s, watch)
                if not built.reason:
                    smoke = self._run(sandbox, "smoke.sh", min(120.0, wanted.timeout_s), watch)
                    built = replace(smoke, reason=smoke.reason and "smoke-failed", log=built.log + smoke.log)
            if built.reason:
                return built
            sandbox.stop()  # before anything is read: nothing of the build still runs
            try:
                archive = sandbox.read_archive("/app", limit_bytes=wanted.disk_mb << 20)
            except OversizedArchive as error:
                return Tried("disk-full", str(error), built.log)
            return replace(built, archive=plain(archive or b""))

    def _run(self, sandbox: Sandbox, script: str, timeout_s: float, watch: Watch) -> Tried:
        env = {"PATH": PATH, "HOME": "/tmp", "LANG": "C.UTF-8", "CI": "1", **variables()}
        argv, wanted = ["/bin/sh", f"/tgym-build/{script}"], self._settings.build
        return ran(sandbox, argv, wanted, watch, timeout_s=timeout_s, user=str(USER), env=env, cwd="/app")

    # ── by its own Dockerfile ───────────────────────────────────────────────────────────────────

    def _by_own(self, name: str, folder: Path, own: Path) -> dict[str, Any]:
        began, cells = time.monotonic(), {"system": "dockerfile", "rounds": 0}
        stages, into = read_stages(own), self._folder(name) / "layer.tar"
        into.parent.mkdir(parents=True, exist_ok=True)
        follower = Follower(self._settings.build, self._runtime, folder, name=f"tgym-build-{name}", into=into)
        made = follower.follow(stages)
        self._keep_log(name, made.tried.log)
        cells["build_s"] = round(time.monotonic() - began, 2)
        if made.tried.reason:
            raise Rejected(made.tried.reason, made.tried.detail, **cells)
        image = write_recipe(
            into.parent, name, base=made.base, archive=made.tried.archive, gone=made.gone, env=made.env
        )
        text = f"{own.read_text('utf-8').rstrip()}\nUSER root\nWORKDIR /app\nCOPY . /app\n"
        return {**cells, **self._image(image), "dockerfile": text}

    # ── what is kept ────────────────────────────────────────────────────────────────────────────

    def _folder(self, name: str) -> Path:
        return self._settings.work / "images" / name

    def _image(self, made: ImageRecipe) -> dict[str, Any]:
        with self._images.lend_recipe(made) as image:
            size = self._runtime.image_bytes(made.name)
        return {"image": made.name, "digest": image.digest, "bytes": size, "added_bytes": added_bytes(made)}

    def _keep_log(self, name: str, log: bytes) -> None:
        folder = self._settings.work / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.log").write_bytes(log)


def _context(folder: Path, plan: Plan) -> bytes:
    """The repository at /app, the user's own, and the two scripts beside it, root's."""
    made = io.BytesIO()

    def mine(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = USER
        entry.uname = entry.gname = ""
        entry.mode = (entry.mode & 0o777) | (0o700 if entry.isdir() else 0o600)
        return entry

    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        tar.add(folder, "app", filter=mine)
        scripts = {"build.sh": plan.script, "smoke.sh": plan.smoke}
        bodies = {name: f"exec 2>&1\nset -e\n{body}\n".encode() for name, body in scripts.items()}
        bodies["certificates.pem"] = certificates()
        for name, content in bodies.items():
            add_file(tar, f"tgym-build/{name}", content)
    return made.getvalue()
