"""What a stranger wrote, run in a sandbox within the bounds of a build: time, memory, processors, processes, disk.

Both kinds of build go through here: a generated script, and a repository's own Dockerfile.
"""

from __future__ import annotations

import io
import os
import re
import ssl
import tarfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from env_registry.pipeline.settings import Build
from terminal_gym.errors import SandboxError
from terminal_gym.sandbox.base import Sandbox
from terminal_gym.tasks.task import Limits

LOG = 1 << 20  # bytes kept
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
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED_ON = ("PIP_INDEX_URL", "npm_config_registry", "GOPROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Tried:
    """One build."""

    reason: str  # "" where it was built
    detail: str
    log: bytes
    archive: bytes = b""  # a tar of /app


def limits(wanted: Build) -> Limits:
    """Return the bounds of a sandbox that builds."""
    return Limits(
        cpus=wanted.cpus,
        memory_mb=wanted.memory_mb,
        pids=wanted.pids,
        disk_mb=wanted.disk_mb,
        network=wanted.network,
    )


def variables() -> dict[str, str]:
    """Return the environment of what is run: this machine's registries and certificates, nothing else of it."""
    passed_on = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    return {**dict.fromkeys(_TRUST, _CERTIFICATES), **passed_on}


def ran(
    sandbox: Sandbox,
    argv: Sequence[str],
    wanted: Build,
    watch: Watch,
    *,
    timeout_s: float,
    user: str,
    env: Mapping[str, str],
    cwd: str,
) -> Tried:
    """Run one command, and say what came of it.

    Raises:
        SandboxError: The machine failed.
    """
    full = f"more than {wanted.disk_mb} MiB were written"
    try:
        done = sandbox.run(list(argv), timeout_s=timeout_s, user=user, env=env, cwd=cwd)
    except SandboxError:
        if not watch.is_full:
            raise
        return Tried("disk-full", full, b"")
    log = (done.stdout + done.stderr)[-LOG:]
    if watch.is_full:
        return Tried("disk-full", full, log)
    if done.timed_out:
        return Tried("build-timeout", f"not done after {timeout_s:.0f} s", log)
    if done.exit_code:
        # An unreachable registry says nothing of the code.
        reason = "network" if _UNREACHABLE.search(log) else "build-failed"
        return Tried(reason, f"exit code {done.exit_code}: {log[-800:].decode('utf-8', 'replace')}", log)
    return Tried("", "", log)


class Watch:
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

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file of ours, root's and readable for everyone."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))


def certificates() -> bytes:
    """Return this machine's certificates; they are laid where `variables` says that they are."""
    known = ssl.get_default_verify_paths()
    bundle = Path(known.cafile or known.openssl_cafile)
    return bundle.read_bytes() if bundle.is_file() else b""
