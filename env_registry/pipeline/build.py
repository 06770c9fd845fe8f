"""Stage 3: candidates → images. What a stranger wrote runs in a sandbox, and nowhere else.

The build runs in a sandbox over the system's toolchain image, as an ordinary user, within bounds of time, memory,
processors, processes and disk. What it left in /app is taken out as a tar and laid over the same toolchain image: that
is the repository's image.

Rejections: no-build-system, build-failed, network, build-timeout, disk-full, smoke-failed, too-large.

WORK/logs/<slug>.log     the whole log, up to a megabyte
WORK/images/<slug>/      Dockerfile and app.tar: the image's recipe
"""

from __future__ import annotations

import io
import os
import re
import secrets
import ssl
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from env_registry.pipeline.collect import slug
from env_registry.pipeline.plan import Plan, plan_for, recipe, toolchain
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Rejected, Row
from terminal_gym.errors import OversizedArchive, SandboxError
from terminal_gym.sandbox.base import Runtime, Sandbox, SandboxSpec
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Limits
from terminal_gym.tasks.terminal_bench import built_image
from terminal_gym.trusted_runtime.orders import ShellOrders

USER = 61_000  # who builds
_LOG = 1 << 20
_WATCH_S = 1.0
# This machine's, where the sandbox sees them: pip and node bring their own, and behind a proxy those do not do.
_CERTIFICATES = "/tgym-build/certificates.pem"
_TRUST = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
)
_UNREACHABLE = re.compile(
    rb"CERTIFICATE_VERIFY_FAILED|SELF_SIGNED_CERT|name resolution|resolve host|EAI_AGAIN|ECONNREFUSED|ECONNRESET"
    rb"|ETIMEDOUT|Network is unreachable|Connection timed out|Could not transfer artifact|dial tcp"
    rb"|php_network_getaddresses|Name\s+or\s+service not known"
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED_ON = ("PIP_INDEX_URL", "npm_config_registry", "GOPROXY", "http_proxy", "https_proxy", "no_proxy")
Repair = Callable[[Plan, str], Plan | None]  # (what failed, the end of its log) → what to try instead


@dataclass(frozen=True)
class Tried:
    """One build."""

    reason: str  # "" where it was built
    detail: str
    log: bytes
    archive: bytes = b""  # a tar of /app


class Builder:
    """Builds candidates on one runtime; safe to use from many threads.

    Args:
        settings: Of the pipeline.
        runtime: Where it builds, and where the images stay.
        repair: Asked after a failed build; None: nobody is.
    """

    def __init__(self, settings: Settings, runtime: Runtime, repair: Repair | None = None):
        self._settings, self._runtime, self._repair = settings, runtime, repair
        self._mutex = threading.Lock()

    def __call__(self, candidate: Row) -> Mapping[str, Any]:
        """Return the cells of one candidate that was built; raises Rejected for one that was not."""
        began, name = time.monotonic(), slug(candidate.key)
        folder = self._settings.work / candidate.cells["folder"]
        plan, rounds = plan_for(folder), 0
        while True:
            base = self._base(plan)
            tried = self._try(f"tgym-build-{name}-{secrets.token_hex(4)}", base, plan, folder)
            self._keep_log(name, rounds, tried.log)
            if not tried.reason or self._repair is None or rounds >= self._settings.build.repair_rounds:
                break
            rounds += 1
            better = self._repair(plan, tried.log[-6_000:].decode("utf-8", "replace"))
            if better is None:
                break
            plan = better
        cells: dict[str, Any] = {
            "system": plan.system,
            "rounds": rounds,
            "build_s": round(time.monotonic() - began, 2),
        }
        if tried.reason:
            raise Rejected(tried.reason, tried.detail, **cells)
        image = self._image(name, base, tried.archive)
        size = self._runtime.image_bytes(image.name)
        return {
            **cells,
            "image": image.name,
            "digest": self._runtime.image(image.name).digest,
            "bytes": size,
            "added_bytes": len(tried.archive),
            "folder": candidate.cells["folder"],
            "language": candidate.cells["language"],
            "score": candidate.cells["score"],
            "dockerfile": recipe(toolchain(plan.system, plan.packages), plan),
        }

    def _base(self, plan: Plan) -> str:
        """The toolchain image, made where it is missing; one at a time, for they share layers."""
        own = self._settings.build.bases.get(plan.system)
        if own is not None:
            return own
        text = toolchain(plan.system, plan.packages)
        folder = self._settings.work / "toolchains" / plan.system
        with self._mutex:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "Dockerfile").write_text(text, "utf-8")
            made = built_image(folder, "Dockerfile", slug=f"toolchain-{plan.system}")
            return self._runtime.build(made).name

    def _try(self, name: str, base: str, plan: Plan, folder: Path) -> Tried:
        wanted = self._settings.build
        limits = Limits(
            cpus=wanted.cpus,
            memory_mb=wanted.memory_mb,
            pids=wanted.pids,
            disk_mb=wanted.disk_mb,
            network=wanted.network,
        )
        with self._runtime.start(SandboxSpec(base, name, limits)) as sandbox:
            sandbox.boot(ShellOrders(secrets.token_hex(8), cwd="/"))
            sandbox.write_archive(_context(folder, plan))
            with _Watch(sandbox, wanted.disk_mb << 20) as watch:
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
            return replace(built, archive=_plain(archive or b""))

    def _run(self, sandbox: Sandbox, script: str, timeout_s: float, watch: _Watch) -> Tried:
        env = {
            "PATH": _PATH,
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
            "CI": "1",
            **dict.fromkeys(_TRUST, _CERTIFICATES),
        }
        env |= {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        try:
            ran = sandbox.run(
                ["/bin/sh", f"/tgym-build/{script}"], timeout_s=timeout_s, user=str(USER), env=env, cwd="/app"
            )
        except SandboxError:
            if not watch.is_full:
                raise
            return Tried("disk-full", f"more than {self._settings.build.disk_mb} MiB were written", b"")
        log = ran.stdout[-_LOG:]
        if watch.is_full:
            return Tried("disk-full", f"more than {self._settings.build.disk_mb} MiB were written", log)
        if ran.timed_out:
            return Tried("build-timeout", f"not done after {timeout_s:.0f} s", log)
        if ran.exit_code:
            reason = (
                "network" if _UNREACHABLE.search(log) else "build-failed"
            )  # the former says nothing of the code
            found = f"exit code {ran.exit_code}: {log[-800:].decode('utf-8', 'replace')}"
            return Tried(reason, found, log)
        return Tried("", "", log)

    def _image(self, name: str, base: str, archive: bytes) -> ImageRecipe:
        folder = self._settings.work / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "app.tar").write_bytes(archive)
        (folder / "Dockerfile").write_text(f"FROM {base}\nADD app.tar /\nWORKDIR /app\n", "utf-8")
        made = built_image(folder, "Dockerfile", slug=f"repo-{name}")
        self._runtime.build(made)
        return made

    def _keep_log(self, name: str, rounds: int, log: bytes) -> None:
        folder = self._settings.work / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}{f'-{rounds}' if rounds else ''}.log").write_bytes(log)


class _Watch:
    """Stops a sandbox that writes too much, while it runs."""

    def __init__(self, sandbox: Sandbox, most: int):
        self._sandbox, self._most, self.is_full = sandbox, most, False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._done.wait(_WATCH_S):
            try:
                if self._sandbox.written_bytes() > self._most:
                    self.is_full = True
                    self._sandbox.stop()
                    return
            except SandboxError:
                return

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


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
        known = ssl.get_default_verify_paths()
        bundle = Path(known.cafile or known.openssl_cafile)
        bodies["certificates.pem"] = bundle.read_bytes() if bundle.is_file() else b""
        for name, content in bodies.items():
            entry = tarfile.TarInfo(f"tgym-build/{name}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _plain(archive: bytes) -> bytes:
    """What a build left, made root's, without devices, set-user bits and links to files that are not there."""
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar,
        tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as out,
    ):
        for entry in tar:
            parts = entry.name.split("/")
            if (
                parts[0] != "app"
                or ".." in parts
                or not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk())
            ):
                continue
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mode &= 0o777
            entry.mtime = 0
            entry.pax_headers = {}
            out.addfile(entry, tar.extractfile(entry) if entry.isreg() else None)
    return made.getvalue()
