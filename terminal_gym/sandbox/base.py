"""Runtime and Sandbox: the two protocols that every back end implements, and the values they trade in.

A runtime makes sandboxes from images. A sandbox is one root filesystem that can be *booted*: each boot starts
the trusted PID 1 with orders (`trusted_runtime/orders.py`) and gives a live console; `stop` kills every process
and keeps the filesystem. So judging "the same machine, everything killed" is stop, then boot with other orders.

`tests/contracts/test_sandbox.py` says in code what each method promises; every back end passes it.
"""

from __future__ import annotations

import os
import pkgutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, cast

from pexpect.spawnbase import SpawnBase

from terminal_gym.errors import RuntimeUnavailable, UnknownName
from terminal_gym.tasks.harness import Condition, Service
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Limits
from terminal_gym.trusted_runtime.orders import Orders


@dataclass(frozen=True)
class Image:
    """An image that a runtime holds."""

    name: str
    digest: str  # "sha256:…": content address in that runtime's store
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""  # "": root
    substituted: str = ""  # what stands in for an upstream base image, "" if nothing does


@dataclass(frozen=True)
class SandboxSpec:
    """What to start."""

    image: str  # image name, see Image.name
    name: str  # deterministic for (run, task, attempt): a lost reply is adopted, not doubled
    limits: Limits = field(default_factory=Limits)
    share_network_of: str | None = (
        None  # name of a sandbox whose network namespace this one joins (live judging)
    )
    services: tuple[Service, ...] = ()  # machines beside it, on a private network that ends with it
    aliases: tuple[str, ...] = ()  # its own names on that network
    needs: tuple[
        tuple[str, Condition], ...
    ] = ()  # services whose state is waited for; a health check always is
    beside: str | None = (
        None  # name of a sandbox whose services this one reaches as well, under its own address
    )
    no_new_privileges: bool = True
    judges: bool = False  # nothing but a judge of ours will run in it; see `sandbox/beside_engine.py`
    labels: Mapping[str, str] = field(default_factory=dict)  # added to the owner labels


@dataclass(frozen=True)
class ExecResult:
    """What a helper process in a sandbox did; a timeout is a result, not an exception."""

    exit_code: int  # 128 + signal where a signal ended it
    stdout: bytes  # capped
    stderr: bytes
    timed_out: bool = False
    truncated: bool = False


class Console(Protocol):
    """The terminal of a booted sandbox."""

    @property
    def stream(self) -> SpawnBase[bytes]:
        """A live pexpect object: `spawn` on a PTY, or `SocketSpawn` on the Engine's attached stream."""
        ...

    def resize(self, rows: int, cols: int) -> None: ...

    def init_pid(self) -> int | None:
        """PID 1's process id as this host sees it, None where this process may not read the host's /proc."""
        ...

    def ask_for_hint(self) -> None:
        """Ask PID 1 to print, on the terminal, that the foreground process waits for input once it does."""
        ...

    def exit_code(self) -> int | None:
        """Status of PID 1 once the sandbox's processes are gone, None before."""
        ...

    def lost(self, *, ended: bool, owed: bool = True) -> str:
        """Return what befell PID 1 or this terminal from outside of the sandbox, "" where nothing is known to have.

        What runs inside cannot bring it about; memory that ran out within the sandbox's own limit is no such thing.

        Args:
            ended: The stream has ended; PID 1 is then given a moment to be gone too.
            owed: PID 1 was to say something last, as a judge is; a shell is not.
        """
        ...


class Snapshot(Protocol):
    """The file system of a sandbox at one moment; what the sandbox does later does not change it.

    A context manager whose end is `close`. Its runtime closes it at the latest; of a dead owner's, `reap` does.
    """

    @property
    def image(self) -> Image:
        """The image that the sandbox stood on, and that those started from here stand on."""
        ...

    def start(self, spec: SandboxSpec) -> Sandbox:
        """Return a sandbox that goes on from here, not yet booted; `spec.image` is not looked at.

        Its changes and its written bytes are counted from the image, not from here. Raises what `Runtime.start` does.
        """
        ...

    def close(self) -> None:
        """Give it up: nothing more is started from it. Safe to call again.

        Sandboxes that were started from it go on; what it takes on the disk is gone once the last of them is closed.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Sandbox(Protocol):
    """One isolated root filesystem, booted or stopped; a context manager whose end is `close`."""

    @property
    def name(self) -> str: ...

    @property
    def image(self) -> Image: ...

    def boot(self, orders: Orders, *, rows: int = 40, cols: int = 160, deadline_s: float = 30.0) -> Console:
        """Start PID 1 with `orders`; returns once it has accepted them.

        Raises:
            NoShell: The image has none of the wanted shells.
            StartFailed: PID 1 did not come up before the deadline, or refused its orders.
            RuntimeUnavailable: The daemon does not answer.
        """
        ...

    def run(
        self,
        argv: list[str],
        *,
        timeout_s: float,
        user: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
    ) -> ExecResult:
        """Run a helper beside the shell; needs a booted sandbox. Not for anything that decides a verdict."""
        ...

    def stop(self) -> None:
        """Kill every process at once, no grace; the filesystem stays. Safe to call again."""
        ...

    def read_archive(self, path: str, *, limit_bytes: int) -> bytes | None:
        """Return a tar of `path` (absolute) as it is, untrusted; None where nothing is there.

        Raises:
            OversizedArchive: More than `limit_bytes` would come; nothing was copied.
        """
        ...

    def write_archive(self, archive: bytes) -> None:
        """Unpack a tar over `/`, as root, booted or not: names, owners and modes are the tar's.

        Only where the tar is ours. A link that an agent left in the way is followed inside the sandbox.
        """
        ...

    def run_in(self, service: str, argv: list[str], *, timeout_s: float, user: str = "") -> ExecResult:
        """Run a helper in one of the services beside it.

        Raises:
            UnknownName: No service has that name.
        """
        ...

    def read_from(self, service: str, path: str, *, limit_bytes: int) -> bytes | None:
        """As `read_archive`, from a service."""
        ...

    def written_bytes(self) -> int:
        """Apparent size of what was written above the image, in bytes."""
        ...

    def changed_paths(self, *, limit: int = 200_000) -> tuple[str, ...]:
        """Paths added, changed or deleted since the image; untrusted names."""
        ...

    def snapshot(self) -> Snapshot:
        """Return its file system as it is now, without processes and without file systems in memory (/dev/shm).

        Processes are held still meanwhile where the kernel lets the runtime do that, and go on afterwards; elsewhere a
        file that is being written may be kept half-written.

        Raises:
            OversizedArchive: More was written than `disk_mb` allows; nothing was kept.
            NotSupported: The image keeps some folders in volumes, which this runtime cannot keep.
            StartFailed: It could not be kept, e.g. for want of room.
            SandboxLost: The sandbox is gone.
        """
        ...

    def close(self) -> None:
        """Remove it and all it holds. Safe to call again; leaves nothing behind."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Runtime(Protocol):
    """Makes sandboxes; one per process and kind, safe to use from many threads."""

    @property
    def name(self) -> str: ...

    def check(self) -> None:
        """Raise RuntimeUnavailable, with what to do about it, where sandboxes cannot be started."""
        ...

    def image(self, name: str) -> Image:
        """Return the image of that name.

        Raises:
            ImageMissing: The store does not hold it.
        """
        ...

    def build(self, recipe: ImageRecipe, *, log: Callable[[str], None] | None = None) -> Image:
        """Make the image of `recipe`, or return it where it exists already.

        Raises:
            BuildFailed: The recipe does not build.
        """
        ...

    def remove_image(self, name: str) -> None:
        """Remove an image, if it is there, and what no other image needs of it.

        Raises:
            StartFailed: A sandbox still uses it.
        """
        ...

    def image_bytes(self, name: str) -> int:
        """Return what an image takes on the disk, with what it shares with others."""
        ...

    def disk_free_bytes(self) -> int | None:
        """Return what is free where images are kept, None where that cannot be seen from here."""
        ...

    def start(self, spec: SandboxSpec) -> Sandbox:
        """Return a sandbox that is created and not yet booted."""
        ...

    def reap(self) -> tuple[str, ...]:
        """Remove what dead owners left; returns the names of what was removed."""
        ...

    def close(self) -> None:
        """Close every sandbox that this runtime still holds."""
        ...


RUNTIMES = {
    "docker": "terminal_gym.sandbox.container:Docker",
    "podman": "terminal_gym.sandbox.container:Podman",
    "namespace": "terminal_gym.sandbox.namespace:Namespace",
}


BUBBLEWRAP = "namespace:bubblewrap"
ENGINES = ("docker", "podman")  # these start containers with an OCI runtime of one's choice


def open_runtime(name: str, **settings: str) -> Runtime:
    """Return the runtime of that name; what it names is imported only now.

    Args:
        name: A key of RUNTIMES, or "auto": docker where its daemon answers, else namespace. What follows a colon starts
            the sandboxes: an engine's OCI runtime, "docker:runsc" for gVisor; "namespace:bubblewrap".
        settings: What that runtime is made with, e.g. `address` for docker; not for "auto".

    Raises:
        UnknownName: There is no such runtime, or nothing of that kind to start its sandboxes with.
    """
    if name == "auto":
        return _docker_or_namespace()
    kind, colon, starter = name.partition(":")
    if kind not in RUNTIMES or (colon and not (starter and kind in ENGINES) and name != BUBBLEWRAP):
        known = [*RUNTIMES, "auto", *(f"{kind}:runsc" for kind in ENGINES), BUBBLEWRAP]
        raise UnknownName("runtime", name, known=known)
    chosen = {"oci_runtime" if kind in ENGINES else "starter": starter} if colon else {}
    return cast(Runtime, pkgutil.resolve_name(RUNTIMES[kind])(**settings, **chosen))


def _docker_or_namespace() -> Runtime:
    docker = open_runtime("docker")
    try:
        docker.check()
    except RuntimeUnavailable:
        docker.close()
        return open_runtime("namespace")
    return docker


_SHARED: dict[tuple[int, str], Runtime] = {}  # by process, for a fork must not share its parent's connections
_SHARED_LOCK = threading.RLock()


def shared_runtime(name: str) -> Runtime:
    """Return the one runtime of that name in this process; it closes itself at exit, nobody else closes it.

    Args:
        name: As for `open_runtime`; what "auto" found is kept.
    """
    with _SHARED_LOCK:
        key = (os.getpid(), name)
        if key not in _SHARED:
            _SHARED[key] = _shared_auto() if name == "auto" else open_runtime(name)
        return _SHARED[key]


def _shared_auto() -> Runtime:
    try:
        docker = shared_runtime("docker")
        docker.check()
    except RuntimeUnavailable:
        return shared_runtime("namespace")
    return docker
