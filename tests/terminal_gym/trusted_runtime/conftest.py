"""A bare machine for the guest programs: bubblewrap around a folder, the tree at /tg, a PTY; no runtime of ours."""

import base64
import hashlib
import hmac
import io
import json
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pexpect
import pytest

from terminal_gym.trusted_runtime import orders as wire
from terminal_gym.trusted_runtime.tree import INIT_ARGV, INIT_ENV, TrustedTree, trusted_tree

DOCKER_LIKE = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID", "KILL", "SYS_CHROOT")


@pytest.fixture(scope="session")
def tree() -> TrustedTree:
    return trusted_tree()


def tar_of(files: Mapping[str, str | bytes | tarfile.TarInfo]) -> bytes:
    """Return a tar of texts (0755), or of headers as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@dataclass
class Machine:
    """A root filesystem that can be booted under bubblewrap."""

    root: Path
    tree: Path
    options: list[str] = field(default_factory=list)  # more arguments for bubblewrap
    capabilities: tuple[str, ...] = DOCKER_LIKE
    system: bool = True  # this host's /usr is there, read-only
    before: tuple[str, ...] = ()  # what runs bubblewrap: strace, say
    children: list[Any] = field(default_factory=list)

    def argv(self) -> list[str]:
        argv = [*self.before, "bwrap", "--bind", str(self.root), "/"]
        if self.system:
            argv += ["--ro-bind", "/usr", "/usr"]
        argv += ["--ro-bind", str(self.tree), "/tg", "--proc", "/proc", "--dev", "/dev"]
        argv += [
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-net",
            "--as-pid-1",
            "--die-with-parent",
            "--clearenv",
        ]
        if os.getuid() != 0:
            argv += ["--unshare-user", "--uid", "0", "--gid", "0"]
        argv += ["--cap-drop", "ALL"]
        for capability in self.capabilities:
            argv += ["--cap-add", f"CAP_{capability}"]
        for name, value in INIT_ENV.items():
            argv += ["--setenv", name, value]
        return [*argv, *self.options, *INIT_ARGV]

    def boot(self, orders: wire.Orders) -> Any:
        """Return the console, a pexpect object, with the orders sent and nothing of the answer read."""
        argv = self.argv()
        child = pexpect.spawn(argv[0], argv[1:], timeout=30, echo=False, dimensions=(40, 160))
        child.delaybeforesend = child.delayafterclose = child.delayafterterminate = None
        self.children.append(child)
        child.expect_exact(wire.READY)
        child.send(wire.encode(orders))
        return child

    def judge(
        self,
        tests: Mapping[str, str],
        *,
        artifacts: Mapping[str, str | bytes | tarfile.TarInfo] | None = None,
        timeout_s: float = 30.0,
        **more: Any,
    ) -> dict[str, Any]:
        """Return the report, its signature checked."""
        settings = {"args": tuple(n for n in tests if n.startswith("test_")), "canary": secrets.token_hex(8)}
        child = self.boot(wire.JudgeOrders(timeout_s=timeout_s, **(settings | more)))
        child.expect_exact(wire.OK)
        key = secrets.token_hex(32)
        packed = tar_of(artifacts) if artifacts else b""
        for line in (base64.b64encode(tar_of(tests)), base64.b64encode(packed), key.encode()):
            child.send(line + b"\n")
        child.expect_exact(pexpect.EOF, timeout=timeout_s + 15)
        child.wait()
        return opened(child.before, bytes.fromhex(key))


def opened(stream: bytes, key: bytes) -> dict[str, Any]:
    """Return the first report on `stream` that `key` signed."""
    for line in stream.splitlines():
        if line.startswith(wire.REPORT):
            signature, _, document = line[len(wire.REPORT) :].partition(b" ")
            text = base64.b64decode(document)
            if hmac.compare_digest(hmac.new(key, text, hashlib.sha256).hexdigest().encode(), signature):
                report: dict[str, Any] = json.loads(text)
                return report
    raise AssertionError(f"no signed report in {stream[-2000:]!r}")


@pytest.fixture
def machine(tmp_path: Path, tree: TrustedTree) -> Iterator[Machine]:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed") if "CI" not in os.environ else pytest.fail(
            "no bubblewrap in CI"
        )
    root = tmp_path / "root"
    for name in ("etc", "tmp", "app", "root"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    made = Machine(root, tree.path)
    yield made
    for child in made.children:
        child.close(force=True)


@pytest.fixture
def users() -> None:
    """For a test in which someone becomes another user."""
    if os.getuid() != 0:
        pytest.skip("an ordinary user's namespace maps one uid: there is nobody to become")


@pytest.fixture
def outcomes() -> Callable[[dict[str, Any]], dict[str, str]]:
    """Outcome of each real test's call phase, by node id."""

    def of(result: dict[str, Any]) -> dict[str, str]:
        report = result["report"]
        return {
            node: outcome
            for node, when, outcome, *_ in report["reports"]
            if when == "call" and node in report["items"]
        }

    return of
