"""Runtimes for the tests, one small image, and the check that a session leaves nothing behind.

A runtime that cannot run here skips its tests with the reason; where the environment variable CI is set, a missing
Docker fails them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.errors import ImageNotFound
from kit.own_daemon import FOLDER
from kit.waiting import wait_until

from terminal_gym.errors import ImageMissing, RuntimeUnavailable, SandboxError
from terminal_gym.sandbox import base, nursery
from terminal_gym.sandbox.base import Runtime, SandboxSpec, open_runtime
from terminal_gym.sandbox.reaper import LABEL, current_owner
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.trusted_runtime.orders import ShellOrders

# Started in the background of a shell, we would ignore the interrupt, and so would every shell that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

IMAGES = Path(__file__).parent / "kit" / "images"
BASE = ImageRecipe(
    "tgym-test/base:1", IMAGES / "base", host_commands=("bash", "stty", "head", "stat"), host_allowed=True
)
BASE_OF_BASE = "debian:bookworm"
BARE = ImageRecipe("tgym-test/bare:1", IMAGES / "bare")  # FROM scratch: no shell
_LEFT_BEHIND_S = 10.0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `docker` that asks for no runtime is held to the same rule."""
    if item.get_closest_marker("docker") and (reason := _why_not("docker")):
        _skip_or_fail(reason)


def _skip_or_fail(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@functools.cache
def _why_not(name: str) -> str:
    """Return why a runtime cannot be used here, "" where it can."""
    try:
        runtime = open_runtime(name)
    except ImportError as error:
        return f"{name}: {error}"
    try:
        runtime.check()
    except RuntimeUnavailable as error:
        return f"{name}: {error}"
    finally:
        runtime.close()
    return ""


@contextlib.contextmanager
def _opened(name: str) -> Iterator[Runtime]:
    runtime = open_runtime(name)
    try:
        yield runtime
    finally:
        runtime.close()


@pytest.fixture(scope="session")
def docker_runtime() -> Iterator[Runtime]:
    """A Docker runtime that holds BASE."""
    if reason := _why_not("docker"):
        _skip_or_fail(reason)
    with _opened("docker") as runtime:
        runtime.build(BASE)
        yield runtime


@pytest.fixture(scope="session")
def podman_service() -> Iterator[None]:
    """Podman's Engine API for the length of the session, where no CONTAINER_HOST names one."""
    podman = shutil.which("podman")
    if os.environ.get("CONTAINER_HOST") or not podman:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="tgym-podman-") as folder:
        socket = Path(folder) / "podman.sock"
        # The usual crun gives up on machines with both kinds of control groups; runc does not.
        runc = ["--runtime", "runc"] if shutil.which("runc") else []
        service = subprocess.Popen(
            [
                podman,
                *runc,
                "--cgroup-manager",
                "cgroupfs",
                "system",
                "service",
                "--time",
                "0",
                f"unix://{socket}",
            ],
            cwd=folder,  # its monitor leaves a file named `oom` where it runs, when a container ran out of memory
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.environ["CONTAINER_HOST"] = f"unix://{socket}"
        try:
            wait_until(lambda: socket.exists() or service.poll() is not None, deadline_s=10)
            yield
        finally:
            del os.environ["CONTAINER_HOST"]
            service.send_signal(signal.SIGTERM)
            service.wait(timeout=10)


@pytest.fixture(
    scope="session",
    params=[pytest.param("docker", marks=pytest.mark.docker), "podman", "namespace"],
)
def any_runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """Each runtime that can run here, holding BASE and BARE."""
    name = str(request.param)
    if name == "podman":
        request.getfixturevalue("podman_service")
    if reason := _why_not(name):
        _skip_or_fail(reason) if name == "docker" else pytest.skip(reason)
    with _opened(name) as runtime:
        if name == "podman":
            _bring_base_to(runtime)
        try:
            runtime.build(BASE)
            runtime.build(BARE)
            with runtime.start(SandboxSpec(BASE.name, f"probe-{os.getpid()}")) as sandbox:
                sandbox.boot(ShellOrders("0" * 16))
        except SandboxError as error:
            if name == "docker":
                raise
            _skip_or_fail(f"{name} does not start a sandbox here: {error}")
        yield runtime


def _bring_base_to(podman: Runtime) -> None:
    """Copy the base image over from Docker, where it is there: to bootstrap it takes a minute."""
    with contextlib.suppress(ImageMissing):
        podman.image(BASE_OF_BASE)
        return
    if _why_not("docker"):
        pytest.skip("podman: it holds no base image, and there is no Docker to copy it from")
    with _opened("docker") as docker:
        try:
            saved = docker.engine.client.get_image(BASE_OF_BASE)  # type: ignore[attr-defined]
        except ImageNotFound:
            pytest.skip(f"podman: neither it nor docker holds {BASE_OF_BASE}")
        list(podman.engine.client.load_image(b"".join(saved)))  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail the session if a container, volume, mount or child process of ours outlives it."""
    mounts, children = _mounts(), _children()
    yield
    for (
        shared
    ) in base._SHARED.values():  # they live as long as their process, and with them what is held ready
        shared.close()
    nursery.end_own()  # it lives as long as its process: what is to be seen is what else does
    left: list[str] = []

    def clean() -> bool:
        left[:] = [*_labelled(), *(_mounts() - mounts), *(_children() - children)]
        return not left

    if not wait_until(clean, deadline_s=_LEFT_BEHIND_S):
        pytest.fail(f"left behind: {left}", pytrace=False)


def _labelled() -> list[str]:
    """Containers, snapshots and volumes that carry this process's lease."""
    container = sys.modules.get("terminal_gym.sandbox.container")
    if container is None or _why_not("docker"):
        return []
    engine = container.Docker().engine
    mine = {"label": f"{LABEL}={current_owner()}"}
    found = [entry["Names"][0] for entry in engine.client.containers(all=True, filters=mine)]
    found += [str(image["RepoTags"]) for image in engine.client.images(filters=mine, all=True)]
    return found + [volume["Name"] for volume in engine.client.volumes(filters=mine)["Volumes"] or []]


def _mounts() -> set[str]:
    """Mount points in our own mount namespace that are ours by name."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = {line.split()[4] for line in lines}
    ours = {point for point in points if "terminal-gym" in point or "tgym-" in point}
    others = {point for point in ours if FOLDER in point and f"{FOLDER}{os.getpid()}-" not in point}
    return ours - others  # a second Engine of another worker's test is that worker's to stop


def _children() -> set[str]:
    pids = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split()
    return {f"{pid} {name}" for pid in pids if "resource_tracker" not in (name := _command(pid))}


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
