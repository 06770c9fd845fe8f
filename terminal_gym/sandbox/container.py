"""Docker and Podman through the Engine API; both speak it, no command line process per sandbox.

A sandbox is one container whose PID 1 is ours. It is created once and may be started several times: with a shell,
later with a judgement. Nothing of the image runs before the agent's shell.

What it does not promise: protection from kernel exploits (use a stronger OCI runtime for that), and a disk quota
where the storage driver has none: `disk_mb` bounds single files here, and the judge's size gate bounds the sum.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import re
import socket
import string
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import Healthcheck, LogConfig, Ulimit
from pexpect.socket_pexpect import SocketSpawn

from terminal_gym.errors import ImageMissing, OversizedArchive, SandboxLost, StartFailed
from terminal_gym.sandbox import images
from terminal_gym.sandbox.base import ExecResult, Image, SandboxSpec
from terminal_gym.sandbox.engine import Engine
from terminal_gym.sandbox.handshake import shake_hands
from terminal_gym.sandbox.reaper import LABEL, current_owner, is_orphan
from terminal_gym.tasks.task import ImageRecipe
from terminal_gym.trusted_runtime.orders import Orders
from terminal_gym.trusted_runtime.tree import GUEST, INIT_ARGV, INIT_ENV, trusted_tree

NAME_LABEL = "terminal-gym.sandbox"
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "SETGID",
    "SETUID",
    "KILL",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
)
_OUTPUT_CAP = 10 * 1024 * 1024
_TIMED_OUT = 124  # what the guard below ends with, as timeout(1) does
# Runs a helper in a session of its own and kills that session at the limit: a killed exec client kills nothing.
_GUARD = """
import os, signal, sys
child = os.fork()
if child == 0:
    os.setsid()
    try:
        os.execvpe(sys.argv[2], sys.argv[2:], {k: v for k, v in os.environ.items() if v})
    except OSError as error:
        os.write(2, str(error).encode())
    os._exit(127)
def kill(*_):
    os.killpg(child, 9)
    os._exit(124)
signal.signal(signal.SIGALRM, kill)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
os._exit(code if code >= 0 else 128 - code)
"""


class Docker:
    """Sandboxes on a Docker Engine."""

    name: ClassVar[str] = "docker"
    advice: ClassVar[str] = "Start it (`systemctl start docker`, or `dockerd`), or use `--runtime namespace`."

    def __init__(self, address: str = ""):
        self.engine = Engine(self.name, address or self._address(), self.advice)
        self._held: dict[str, Container] = {}
        self._lock = threading.Lock()
        self._starts = threading.BoundedSemaphore(max(4, 2 * (os.cpu_count() or 1)))
        self._reaped = False
        atexit.register(_close_at_exit, weakref.ref(self))

    def _address(self) -> str:
        return ""

    def check(self) -> None:
        """Raise RuntimeUnavailable where the daemon does not answer."""
        with self.engine.calling("ping"):
            self.engine.client.ping()

    def image(self, name: str) -> Image:
        """Return the image of that name.

        Raises:
            ImageMissing: The daemon does not hold it.
        """
        with self.engine.calling(f"inspect image {name}"):
            try:
                return images.described(name, self.engine.client.inspect_image(name))
            except ImageNotFound:
                advice = "Make it with `tgym images build TASK`, or pull it."
                raise ImageMissing(f"{self.name} holds no image named {name!r}. {advice}") from None

    def build(self, recipe: ImageRecipe, *, log: Callable[[str], None] | None = None) -> Image:
        """Make the image of `recipe`, or return it where it exists; base images are bootstrapped where need be.

        Raises:
            BuildFailed: The recipe does not build.
            ImageMissing: It has no recipe and cannot be pulled.
        """
        try:
            return self.image(recipe.name)
        except ImageMissing:
            images.build(self.engine, recipe, log=log or (lambda _line: None))
            return self.image(recipe.name)

    def start(self, spec: SandboxSpec) -> Container:
        """Return a container that is created and not yet booted.

        Raises:
            ImageMissing: The image is not there.
            StartFailed: The daemon refused.
            RuntimeUnavailable: The daemon does not answer.
        """
        self._reap_once()
        image = self.image(spec.image)
        with self.engine.calling(f"create {spec.name}"):
            id = self._create(spec, image)
        container = Container(self, id, spec, image)
        with self._lock:
            self._held[spec.name] = container
        return container

    def _create(self, spec: SandboxSpec, image: Image) -> str:
        settings = self._settings(spec, image)
        for _ in range(3):
            try:
                made: dict[str, Any] = self.engine.client.create_container_from_config(
                    settings, container_name(spec.name)
                )
            except APIError as error:
                if error.status_code != 409:
                    raise
                if adopted := self._adopt(spec):
                    return adopted
            else:
                return str(made["Id"])
        raise StartFailed(f"the name {container_name(spec.name)} stays taken; see `tgym reap`")

    def _adopt(self, spec: SandboxSpec) -> str | None:
        """A create whose reply was lost left a container of ours that was never started: take it, remove any other."""
        with contextlib.suppress(NotFound):
            found = self.engine.client.inspect_container(container_name(spec.name))
            lease = (found["Config"].get("Labels") or {}).get(LABEL)
            if lease == str(current_owner()):
                if found["State"]["Status"] == "created" and spec.name not in self._held:
                    return str(found["Id"])
                raise StartFailed(f"a sandbox named {spec.name!r} is already held by this process")
            if not is_orphan(lease):
                raise StartFailed(
                    f"the name {container_name(spec.name)} belongs to another process ({lease})"
                )
            self.engine.client.remove_container(found["Id"], force=True, v=True)
        return None

    def _settings(self, spec: SandboxSpec, image: Image) -> dict[str, Any]:
        client, limits = self.engine.client, spec.limits
        network = "bridge" if limits.network else "none"
        if spec.share_network_of:
            network = f"container:{container_name(spec.share_network_of)}"
        disk = limits.disk_mb * 1024 * 1024
        host = client.create_host_config(
            binds=[f"{self._tree_source(image)}:{GUEST}:ro"],
            cap_drop=["ALL"],
            cap_add=list(CAPABILITIES),
            security_opt=["no-new-privileges:true"] if spec.no_new_privileges else [],
            pids_limit=limits.pids,
            mem_limit=limits.memory_mb * 1024 * 1024,
            memswap_limit=limits.memory_mb * 1024 * 1024,
            nano_cpus=int(min(limits.cpus, self.engine.cpus) * 1e9),
            network_mode=network,
            ipc_mode="private",
            ulimits=[
                Ulimit(name="nofile", soft=4096, hard=4096),
                Ulimit(name="core", soft=0, hard=0),
                Ulimit(name="fsize", soft=disk, hard=disk),
            ],
            log_config=LogConfig(type="none"),
            init=False,
        )
        config: dict[str, Any] = client.create_container_config(
            image.digest,
            [],
            entrypoint=list(INIT_ARGV),
            tty=True,
            stdin_open=True,
            user="0:0",
            working_dir="/",
            environment=dict.fromkeys(image.env, "") | INIT_ENV,  # the image's variables travel in the orders
            labels={LABEL: str(current_owner()), NAME_LABEL: spec.name, **spec.labels},
            stop_signal="SIGKILL",
            healthcheck=Healthcheck(test=["NONE"]),
            host_config=host,
            hostname=None if spec.share_network_of else "sandbox",
        )
        return config

    def _tree_source(self, image: Image) -> str:
        tree = trusted_tree()
        return str(tree.path) if self.engine.is_local else images.tree_volume(self.engine, tree, image.name)

    def reap(self) -> tuple[str, ...]:
        """Remove containers, networks and volumes whose owner is dead; returns their names."""
        removed: list[str] = []
        client = self.engine.client
        with self.engine.calling("reap"):
            for found in client.containers(all=True, filters={"label": LABEL}):
                if is_orphan((found.get("Labels") or {}).get(LABEL)):
                    with contextlib.suppress(NotFound):
                        client.remove_container(found["Id"], force=True, v=True)
                        removed.append(found["Names"][0].lstrip("/"))
            for network in client.networks(filters={"label": LABEL}):
                if is_orphan((network.get("Labels") or {}).get(LABEL)):
                    with contextlib.suppress(NotFound):
                        client.remove_network(network["Id"])
                        removed.append(network["Name"])
            for volume in client.volumes(filters={"label": LABEL}).get("Volumes") or []:
                if is_orphan((volume.get("Labels") or {}).get(LABEL)):
                    with contextlib.suppress(NotFound):
                        client.remove_volume(volume["Name"], force=True)
                        removed.append(volume["Name"])
        return tuple(removed)

    def _reap_once(self) -> None:
        with self._lock:
            first, self._reaped = not self._reaped, True
        if first:
            self.reap()

    def close(self) -> None:
        """Close every sandbox that this runtime still holds."""
        with self._lock:
            held = list(self._held.values())
        for container in held:
            container.close()

    def _forget(self, name: str) -> None:
        with self._lock:
            self._held.pop(name, None)


class Podman(Docker):
    """Sandboxes on Podman's Engine API (`podman system service`)."""

    name: ClassVar[str] = "podman"
    advice: ClassVar[str] = "Start its API with `podman system service --time 0 &`, or set CONTAINER_HOST."

    def _address(self) -> str:
        user = f"{os.environ.get('XDG_RUNTIME_DIR', f'/run/user/{os.getuid()}')}/podman/podman.sock"
        default = "/run/podman/podman.sock" if os.getuid() == 0 else user
        return os.environ.get("CONTAINER_HOST", f"unix://{default}")


class Container:
    """One container; see `Sandbox` in base.py for what each method promises."""

    def __init__(self, runtime: Docker, id: str, spec: SandboxSpec, image: Image):
        self.id, self.spec, self.image = id, spec, image
        self.name = spec.name
        self._runtime, self._engine = runtime, runtime.engine
        self._line: Line | None = None
        self._closed = False

    def boot(self, orders: Orders, *, rows: int = 40, cols: int = 160, deadline_s: float = 30.0) -> Line:
        """Start PID 1 with `orders`; returns its terminal once it has accepted them."""
        self._hang_up()
        with self._runtime._starts, self._engine.calling("start", sandbox=self.name):
            line = Line(self._engine, self.id, self.name)
            self._line = line
            self._engine.client.start(self.id)
            line.resize(rows, cols)
        shake_hands(line.stream, orders, deadline_s=deadline_s)
        return line

    def run(
        self,
        argv: list[str],
        *,
        timeout_s: float,
        user: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
    ) -> ExecResult:
        """Run a helper beside the shell under a limit; output is kept up to 10 MiB a stream."""
        guarded = [*INIT_ARGV[:-1], "-c", _GUARD, str(timeout_s), *argv]
        variables = dict(self.image.env) if env is None else dict(env)
        began = time.monotonic()
        out, err, size = bytearray(), bytearray(), 0
        with self._engine.calling("run a helper in", sandbox=self.name):
            client = self._engine.client
            made = client.exec_create(self.id, guarded, user=user, workdir=cwd, environment=variables)
            for stdout, stderr in client.exec_start(made["Id"], stream=True, demux=True):
                for chunk, kept in ((stdout, out), (stderr, err)):
                    size += len(chunk or b"")
                    kept += (chunk or b"")[: _OUTPUT_CAP - len(kept)]
            code = client.exec_inspect(made["Id"])["ExitCode"]
        timed_out = code == _TIMED_OUT and time.monotonic() - began >= timeout_s
        return ExecResult(code, bytes(out), bytes(err), timed_out, truncated=size > len(out) + len(err))

    def stop(self) -> None:
        """Kill every process at once; the file system stays."""
        self._hang_up()
        with self._engine.calling("stop", sandbox=self.name):
            try:
                self._engine.client.kill(self.id)
                self._engine.client.wait(self.id, timeout=30, condition="not-running")
            except NotFound:
                raise SandboxLost(f"the container of {self.name} is gone") from None
            except APIError as error:
                if error.status_code != 409:  # 409: it does not run
                    raise

    def read_archive(self, path: str, *, limit_bytes: int) -> bytes | None:
        """Return a tar of `path` as it is, untrusted; None where nothing is there."""
        with self._engine.calling(f"read {path} from", sandbox=self.name):
            try:
                chunks, stat = self._engine.client.get_archive(self.id, path)
            except NotFound:
                return None
            kept = bytearray()
            if stat["size"] <= limit_bytes:
                for chunk in chunks:
                    kept += chunk
                    if len(kept) > limit_bytes:
                        break
            if stat["size"] > limit_bytes or len(kept) > limit_bytes:
                chunks.close()
                raise OversizedArchive(f"{path} in {self.name} is larger than {limit_bytes} bytes")
            return bytes(kept)

    def written_bytes(self) -> int:
        """Apparent size of what was written above the image."""
        with self._engine.calling("measure", sandbox=self.name):
            found = self._engine.client.containers(all=True, size=True, filters={"id": self.id})
            if not found:
                raise SandboxLost(f"the container of {self.name} is gone")
            return int(found[0].get("SizeRw") or 0)

    def changed_paths(self, *, limit: int = 10_000) -> tuple[str, ...]:
        """Paths added, changed or deleted since the image; untrusted names."""
        with self._engine.calling("list changes of", sandbox=self.name):
            return tuple(str(change["Path"]) for change in (self._engine.client.diff(self.id) or [])[:limit])

    def close(self) -> None:
        """Remove the container and its volumes."""
        if self._closed:
            return
        self._hang_up()
        with self._engine.calling("remove", sandbox=self.name):
            try:
                self._engine.client.remove_container(self.id, force=True, v=True)
            except NotFound:
                pass
            except APIError as error:
                if error.status_code != 409:  # 409: somebody else's removal is under way
                    raise
        self._closed = True
        self._runtime._forget(self.name)

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.hang_up()
            self._line = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Line:
    """The attached terminal of a container; a Console in the words of base.py."""

    def __init__(self, engine: Engine, id: str, name: str):
        self._engine, self._id, self._name = engine, id, name
        # Whoever can type the detach keys loses the terminal, so they cannot be guessed. The first is a NUL: no other
        # key is held back while the daemon waits for the rest.
        secret = ",".join(random.SystemRandom().choices(string.ascii_lowercase, k=12))
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "detachKeys": f"ctrl-@,{secret}"}
        self._attached = engine.client.attach_socket(id, params)
        raw: socket.socket = getattr(self._attached, "_sock", self._attached)
        raw.settimeout(None)
        self._raw = raw
        self.stream: SocketSpawn[bytes] = SocketSpawn(raw, maxread=131_072, searchwindowsize=300)
        self._pid: int | None = None

    def resize(self, rows: int, cols: int) -> None:
        """Give the terminal another size, in cells."""
        with self._engine.calling("resize", sandbox=self._name):
            self._engine.client.resize(self._id, rows, cols)

    def init_pid(self) -> int | None:
        """PID 1 as this host sees it, None where its /proc cannot be read from here."""
        if self._pid is None and self._engine.is_local:
            with self._engine.calling("inspect", sandbox=self._name):
                pid = int(self._engine.client.inspect_container(self._id)["State"]["Pid"])
            try:
                Path(f"/proc/{pid}/syscall").read_bytes()
                self._pid = pid
            except OSError:
                return None
        return self._pid

    def ask_for_hint(self) -> None:
        """Ask PID 1 to say, once, that the foreground process waits for input."""
        with self._engine.calling("signal", sandbox=self._name), contextlib.suppress(APIError):
            self._engine.client.kill(self._id, "SIGUSR1")

    def exit_code(self) -> int | None:
        """Status of PID 1 once it has ended."""
        with self._engine.calling("inspect", sandbox=self._name):
            try:
                state = self._engine.client.inspect_container(self._id)["State"]
            except NotFound:
                raise SandboxLost(f"the container of {self._name} is gone") from None
        return None if state["Running"] else int(state["ExitCode"])

    def hang_up(self) -> None:
        """Close the stream; safe to call again."""
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_RDWR)
        self._attached.close()
        self._raw.close()
        self.stream.closed = True


def container_name(name: str) -> str:
    """Return the Engine's name for a sandbox."""
    return "tgym-" + re.sub(r"[^a-zA-Z0-9_.-]", "-", name)


def _close_at_exit(runtime: weakref.ref[Docker]) -> None:
    if (alive := runtime()) is not None:
        with contextlib.suppress(Exception):  # the interpreter is going; `tgym reap` removes what stays
            alive.close()
