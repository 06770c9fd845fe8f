"""Docker and Podman through the Engine API; both speak it, no command line process per sandbox.

A sandbox is one container whose PID 1 is ours. It is created once and may be started several times: with a shell,
later with a judgement. Nothing of the image runs before the agent's shell.

What it does not promise: protection from kernel exploits (use a stronger OCI runtime for that), and a disk quota
where the storage driver has none: `disk_mb` bounds single files here, and the judge's size gate bounds the sum.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import io
import itertools
import json
import os
import re
import resource
import shutil
import tarfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import requests
from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import Ulimit

from terminal_gym.errors import (
    ImageMissing,
    OversizedArchive,
    RuntimeUnavailable,
    SandboxError,
    SandboxLost,
    StartFailed,
    UnknownName,
)
from terminal_gym.sandbox import beside_engine, committed, holders, images, isolation, services
from terminal_gym.sandbox.base import ExecResult, Image, SandboxSpec
from terminal_gym.sandbox.engine import CALL_S, Engine, remove
from terminal_gym.sandbox.guard import OUTPUT_CAP, TIMED_OUT, guarded
from terminal_gym.sandbox.handshake import shake_hands
from terminal_gym.sandbox.isolation import NAME_LABEL, SPEC_LABEL, container_name
from terminal_gym.sandbox.line import Line
from terminal_gym.sandbox.namespace import Machine
from terminal_gym.sandbox.reaper import LABEL, current_owner, is_orphan
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.trusted_runtime.orders import Orders
from terminal_gym.trusted_runtime.tree import GUEST, empty_beside, trusted_tree

_END_S = 2  # seconds that PID 1 gets to kill everything
_GO_MODE_LINK = 1 << 27  # os.ModeSymlink in a path's status
_GO_MODE_TYPE = 0x8F280000  # os.ModeType: every bit that a regular file has not
# What the daemon, and runc, open below the container's root at every start, to look up a user, with no time limit.
_READ_AT_START = ("/etc/passwd", "/etc/group")
# (address, container name) held by this process, whichever runtime holds it
_NAMES: set[tuple[str, str]] = set()
_NAMES_LOCK = threading.Lock()


class Docker:
    """Sandboxes on a Docker Engine.

    Args:
        address: As DOCKER_HOST has it; "": that variable, or the default socket.
        mirror: A registry, `host[:port][/path]`, that is asked for an image before the one its name says; "": none.
        oci_runtime: What the Engine starts containers with, by the name it is registered under ("runsc" for gVisor);
            "": its default. It is part of `name`, and so of every record.
    """

    name: str = "docker"
    follows_links: ClassVar[bool] = False  # whether the archive of a link is that of what it points to
    makes_views: ClassVar[bool] = True  # whether a volume without a name can be an overlay
    keeps_layers: ClassVar[bool] = True  # whether its layers can be found on its disk
    advice: ClassVar[str] = "Start it (`systemctl start docker`, or `dockerd`), or use `--runtime namespace`."

    def __init__(self, address: str = "", mirror: str = "", oci_runtime: str = "", *, call_s: int = CALL_S):
        self.mirror, self.oci_runtime = mirror, oci_runtime
        self.name = f"{type(self).name}:{oci_runtime}" if oci_runtime else type(self).name
        self.engine = Engine(self.name, address or self._address(), self.advice, call_s=call_s)
        self._held: dict[str, Container] = {}
        self.snapshots = committed.Shelf(self.engine)
        self._lock = threading.Lock()
        self._process = os.getpid()
        self.own_views = self.makes_views  # of the trusted tree; False once the Engine could not mount one
        self._volume = ""  # holds the trusted tree, on an Engine that cannot see this machine's files
        self.starts = threading.BoundedSemaphore(max(4, 2 * (os.cpu_count() or 1)))
        self._reaped = False
        self._unanswered: set[str] = set()  # names of containers that may be there although nobody said so
        atexit.register(_close_at_exit, weakref.ref(self))

    def _address(self) -> str:
        """The rootless daemon of an ordinary user who may not use the other; "" for the usual one."""
        own = f"{os.environ.get('XDG_RUNTIME_DIR', '')}/docker.sock"
        usual = "DOCKER_HOST" in os.environ or os.access("/var/run/docker.sock", os.W_OK)
        return "" if usual or not Path(own).is_socket() else f"unix://{own}"

    def check(self) -> None:
        """Raise RuntimeUnavailable where the daemon does not answer."""
        with self.engine.calling("ping"):
            self.engine.client.ping()
            known = self.engine.client.info().get("Runtimes") or {} if self.oci_runtime else {}
        if self.oci_runtime and known and self.oci_runtime not in known:
            raise RuntimeUnavailable(
                f"the engine at {self.engine.address} has no OCI runtime {self.oci_runtime!r}, only "
                f"{', '.join(sorted(known))}. Register it (for gVisor: `runsc install`), and restart the engine."
            )

    def missing_limits(self) -> tuple[str, ...]:
        """Names of the limits that this engine cannot hold a sandbox to."""
        with self.engine.calling("ask for its limits"):
            info = self.engine.client.info()
        flags = {"cpus": "CpuCfsQuota", "memory_mb": "MemoryLimit", "pids": "PidsLimit"}
        return tuple(limit for limit, flag in flags.items() if not info.get(flag))

    def image(self, name: str) -> Image:
        """Return the image of that name.

        Raises:
            ImageMissing: The daemon does not hold it.
        """
        return images.described(*self._inspected(name))

    def _inspected(self, name: str) -> tuple[str, Mapping[str, Any]]:
        """Return the name under which the image is known, and what the Engine says of it."""
        with self.engine.calling(f"inspect image {name}"):
            for known_as in images.names(name, self.mirror):
                with contextlib.suppress(ImageNotFound):
                    return known_as, self.engine.client.inspect_image(known_as)
        advice = "Make it with `tgym images build TASK`, or pull it."
        raise ImageMissing(f"{self.name} holds no image named {name!r}. {advice}")

    def build(self, recipe: ImageRecipe, *, log: Callable[[str], None] | None = None) -> Image:
        """Make the image of `recipe`, or return it where it exists; base images are bootstrapped where need be.

        Raises:
            BuildFailed: The recipe does not build.
            ImageMissing: It has no recipe and cannot be pulled.
        """
        try:
            return self.image(recipe.name)
        except ImageMissing:
            images.build(self.engine, recipe, mirror=self.mirror, log=log or (lambda _line: None))
            return self.image(recipe.name)

    def remove_image(self, name: str) -> None:
        """Remove an image, if it is there; the layers that others share stay.

        Raises:
            StartFailed: A container still uses it.
        """
        if self._judges is not None:
            with contextlib.suppress(ImageMissing):
                self._judges.await_unused(name)
        with self.engine.calling(f"remove image {name}"):
            for known_as in images.names(name, self.mirror):
                try:
                    self.engine.client.remove_image(known_as)
                except ImageNotFound:
                    continue
                except APIError as error:
                    # What the Engine says of an image whose last name somebody else took away meanwhile.
                    if "unrecognized image ID" not in str(error.explanation):
                        raise

    def image_bytes(self, name: str) -> int:
        """Return what an image takes on the disk, with the layers that it shares with others."""
        with self.engine.calling(f"inspect image {name}"):
            return int(self.engine.client.inspect_image(self.image(name).name)["Size"])

    def disk_free_bytes(self) -> int | None:
        """Return what is free where the daemon keeps images, None where it is another machine's disk."""
        with self.engine.calling("ask where it keeps images"):
            root = Path(self.engine.client.info()["DockerRootDir"])
        return shutil.disk_usage(root).free if self.engine.is_local and root.is_dir() else None

    def start(self, spec: SandboxSpec) -> Container | Machine:
        """Return a container that is created and not yet booted; for a judge, where one can be, an embedded sandbox.

        Raises:
            ImageMissing: The image is not there.
            StartFailed: The daemon refused.
            RuntimeUnavailable: The daemon does not answer.
        """
        if spec.judges and self._judges is not None and (embedded := self._judges.start(spec)) is not None:
            return embedded
        return self._start(spec, self.image(spec.image))

    @property
    def judges_stand(self) -> str:
        """Where the judges of its tasks do, in words."""
        return "in containers" if self._judges is None else "beside it, over its layers"

    @functools.cached_property
    def _judges(self) -> beside_engine.Judges | None:
        if not self._is_plain:
            return None
        return beside_engine.judges(self.engine, lambda name: self._inspected(name)[1])

    @property
    def _is_plain(self) -> bool:
        """Whether containers are all that is asked for, and not what a named OCI runtime or Podman makes of them."""
        return not self.oci_runtime and self.keeps_layers and self.engine.is_plain

    def _start(
        self, spec: SandboxSpec, image: Image, snapshot: committed.Committed | None = None
    ) -> Container:
        self._reap_once()
        key = (self.engine.address, container_name(spec.name))
        with _NAMES_LOCK:
            if key in _NAMES:
                raise StartFailed(f"a sandbox named {spec.name!r} is already held by this process")
            _NAMES.add(key)
        beside: services.Services | None = None
        holder: holders.Holder | None = None
        try:
            if isolation.joins_holder(spec) and self._holders is not None:
                holder = self._holders.take()
            with self.engine.calling(f"create {spec.name}"):
                if spec.services:
                    beside = services.started(self.engine, spec, build=self.build)
                stood_on = image if snapshot is None else replace(image, digest=snapshot.id)
                id = self._create(spec, stood_on, holder)
                container = Container(self, id, spec, image, beside, snapshot, holder)
        except BaseException:
            self._give_back(holder)
            if beside is not None:
                with contextlib.suppress(SandboxError):
                    beside.close()
            _NAMES.discard(key)
            raise
        with self._lock:
            self._held[spec.name] = container
        return container

    @functools.cached_property
    def _holders(self) -> holders.Holders | None:
        return holders.Holders(self.engine) if self._is_plain else None

    def _give_back(self, holder: holders.Holder | None) -> None:
        if holder is not None and self._holders is not None:
            self._holders.give_back(holder)

    def _create(self, spec: SandboxSpec, image: Image, holder: holders.Holder | None) -> str:
        """Return the new container's id; asked again after a lost reply or an error of the daemon's own."""
        name = container_name(spec.name)
        settings = isolation.settings(
            self.engine,
            spec,
            image,
            tree=self._tree_source(image),
            beside=self._beside_tree(),
            holder=holder.id if holder else "",
            ulimits=self._own_ulimits(),
            oci_runtime=self.oci_runtime,
        )
        for tries_left in (2, 1, 0):
            try:
                return str(self.engine.client.create_container_from_config(settings, name)["Id"])
            except ImageNotFound:
                raise ImageMissing(f"{self.name} no longer holds {spec.image!r}") from None
            except APIError as error:
                if error.status_code == 409:
                    if adopted := self._adopt(name, settings["Labels"]):
                        return adopted
                elif error.status_code is None or error.status_code < 500 or not tries_left:
                    raise
            except requests.ConnectionError:
                self._unanswered.add(name)
                if not tries_left:
                    raise
        raise StartFailed(f"the name {name} stays taken; see `tgym reap`")

    def _adopt(self, name: str, labels: Mapping[str, str]) -> str | None:
        """Take the container that a create with a lost reply left; remove any other of ours or of a dead owner."""
        with contextlib.suppress(NotFound):
            found = self.engine.client.inspect_container(name)
            theirs: Mapping[str, str] = found["Config"].get("Labels") or {}
            lease = theirs.get(LABEL)
            mine = lease == labels[LABEL]
            if (
                mine
                and theirs.get(SPEC_LABEL) == labels[SPEC_LABEL]
                and found["State"]["Status"] == "created"
            ):
                return str(found["Id"])
            if not mine and not is_orphan(lease):
                raise StartFailed(
                    f"the name {name} belongs to another process ({lease or 'not terminal-gym'})"
                )
            remove(self.engine, found["Id"])
        return None

    def _own_ulimits(self) -> list[Ulimit]:
        return []

    def _tree_source(self, image: Image) -> str:
        tree = trusted_tree()
        if self.engine.is_local:
            return str(tree.path)
        with self._lock:
            if not self._volume:
                self._volume = images.tree_volume(self.engine, tree, image.digest)
        return self._volume

    def _beside_tree(self) -> str:
        """An empty folder for views of the tree, "" where containers share it: elsewhere, or without overlays."""
        path = str(trusted_tree().path)
        if not (self.engine.is_local and self.own_views) or any(sign in path for sign in ":,\\"):
            return ""
        return str(empty_beside(trusted_tree()))

    def reap(self) -> tuple[str, ...]:
        """Remove containers, snapshots, networks and volumes whose owner is dead; returns their names."""
        return (*(self._judges.reap() if self._judges is not None else ()), *self._reap_engine())

    def _reap_engine(self) -> list[str]:
        client = self.engine.client
        ours = {"label": LABEL}
        removed: list[str] = []
        with self.engine.calling("reap"):
            for found in filter(_is_left, client.containers(all=True, filters=ours)):
                remove(self.engine, found["Id"])
                removed.append(found["Names"][0].lstrip("/"))
            removed += committed.reap(self.engine)
            for found in filter(_is_left, client.networks(filters=ours)):
                with contextlib.suppress(NotFound):
                    client.remove_network(found["Id"])
                    removed.append(found["Name"])
            for found in filter(_is_left, client.volumes(filters=ours).get("Volumes") or []):
                with contextlib.suppress(NotFound):
                    client.remove_volume(found["Name"], force=True)
                    removed.append(found["Name"])
        return removed

    def _reap_once(self) -> None:
        with self._lock:
            first, self._reaped = not self._reaped, True
        if first:
            with contextlib.suppress(
                SandboxError
            ):  # what is dead can wait; the start tells of a daemon that is
                self._reap_engine()  # judges, where there will be some, see to theirs

    def close(self) -> None:
        """Close every sandbox and every snapshot that this runtime still holds."""
        if os.getpid() != self._process:
            return  # a fork: they are its parent's
        if (beside := vars(self).get("_judges")) is not None:
            beside.close()
        with self._lock:
            held: list[Container | committed.Committed] = [*self._held.values(), *self.snapshots]
        failed: list[SandboxError] = []
        for one in held:
            try:
                one.close()
            except SandboxError as error:
                failed.append(error)
        self._remove_unanswered()
        if (ready := vars(self).get("_holders")) is not None:
            ready.close()
        if failed:
            raise failed[0]

    def _remove_unanswered(self) -> None:
        """Remove what an Engine made that could not say so; where it is still silent, `reap` does later."""
        while self._unanswered:
            name = self._unanswered.pop()
            with contextlib.suppress(SandboxError, NotFound), self.engine.calling(f"look for {name}"):
                labels = self.engine.client.inspect_container(name)["Config"].get("Labels") or {}
                if labels.get(LABEL) == str(current_owner()) and labels.get(NAME_LABEL) not in self._held:
                    remove(self.engine, name)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._held.pop(name, None)
        _NAMES.discard((self.engine.address, container_name(name)))


class Podman(Docker):
    """Sandboxes on Podman's Engine API (`podman system service`)."""

    name: str = "podman"
    follows_links: ClassVar[bool] = True
    makes_views: ClassVar[bool] = False  # it makes an empty one, and says nothing
    keeps_layers: ClassVar[bool] = False
    advice: ClassVar[str] = "Start its API with `podman system service --time 0 &`, or set CONTAINER_HOST."

    def _address(self) -> str:
        user = f"{os.environ.get('XDG_RUNTIME_DIR', f'/run/user/{os.getuid()}')}/podman/podman.sock"
        default = "/run/podman/podman.sock" if os.getuid() == 0 else user
        return os.environ.get("CONTAINER_HOST", f"unix://{default}")

    def _own_ulimits(self) -> list[Ulimit]:
        """Podman's default may be more than the service itself is allowed (pid_max), which a start then fails on."""
        if not self.engine.is_local or (most := resource.getrlimit(resource.RLIMIT_NPROC)[1]) < 0:
            return []
        most = min(most, int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii")))
        return [Ulimit(name="nproc", soft=most, hard=most)]


class Container:
    """One container; see `Sandbox` in base.py for what each method promises."""

    def __init__(
        self,
        runtime: Docker,
        id: str,
        spec: SandboxSpec,
        image: Image,
        beside: services.Services | None = None,
        snapshot: committed.Committed | None = None,
        holder: holders.Holder | None = None,
    ):
        self.id, self.spec, self.image = id, spec, image
        self.name = spec.name
        self._runtime, self._engine = runtime, runtime.engine
        self._snapshot, self._holder = snapshot, holder
        self._line: Line | None = None
        self._beside = beside
        self._reader: Machine | None = None  # while it is stopped, once it was read
        self._closed = self._ran = self._keeps_shell = False
        self._closing = threading.Lock()

    def boot(self, orders: Orders, *, rows: int = 40, cols: int = 160, deadline_s: float = 30.0) -> Line:
        """Start PID 1 with `orders`; returns its terminal once it has accepted them. What ran before is stopped."""
        if self._line is not None:
            self.stop()
        self._read_no_more()
        if self._ran:
            self._mend()
            if self._holder is not None:
                self._holder.restore()
        self._ran, self._keeps_shell = True, orders.kind == "shell"
        try:
            with self._runtime.starts, self._engine.calling("start", sandbox=self.name):
                self._line = Line(self._engine, self.id, self.name)
                self._start()
                line = self._line
                line.resize(rows, cols)
            shake_hands(line.stream, orders, deadline_s=deadline_s)
        except BaseException:
            with contextlib.suppress(SandboxError):
                self.stop()
            raise
        return line

    def _mend(self) -> None:
        """Put an empty file where the daemon would wait for ever on a FIFO that an agent left."""
        with self._engine.calling("look at what starts", sandbox=self.name):
            for path in _READ_AT_START:
                if not self._opens_at_once(path):
                    folder, _, name = path.rpartition("/")
                    self._engine.client.put_archive(self.id, folder, _empty_file(name))

    def _opens_at_once(self, path: str) -> bool:
        """Whether a file, or nothing, is at `path`, through links."""
        for _ in range(2):  # the target that the daemon tells of a link is resolved
            answer = self._engine.head(f"/containers/{self.id}/archive", {"path": path})
            if answer is None:
                return True
            stat = _stat_of(answer)
            if not stat["mode"] & _GO_MODE_TYPE:
                return True
            if not stat["mode"] & _GO_MODE_LINK:
                return False
            path = stat["linkTarget"]
        return False

    def _start(self) -> None:
        try:
            self._engine.client.start(self.id)
        except NotFound:
            raise SandboxLost(f"the container of {self.name} is gone") from None
        except APIError as error:  # e.g. the agent left a file where a mount point must be
            if self._runtime.own_views and "failed to mount local volume" in str(error.explanation):
                self._share_the_tree()
                return
            if self._holder is not None and not self._holder.is_alive():
                raise SandboxLost(f"the network of {self.name} was taken away from outside") from error
            raise StartFailed(f"{self.name} does not start: {error.explanation or error}") from error

    def _share_the_tree(self) -> None:
        """Begin again with the tree itself: this Engine's machine cannot lay an overlay over it."""
        self._runtime.own_views = False
        self._hang_up()
        remove(self._engine, self.id)
        image = self.image if self._snapshot is None else replace(self.image, digest=self._snapshot.id)
        self.id = self._runtime._create(self.spec, image, self._holder)
        self._line = Line(self._engine, self.id, self.name)
        self._start()

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
        command = guarded(argv, timeout_s=timeout_s, env=self.image.env if env is None else env)
        began = time.monotonic()
        with self._engine.calling("run a helper in", sandbox=self.name):
            made = self._engine.client.exec_create(self.id, command, user=user, workdir=cwd)["Id"]
            out, err, truncated = self._output_of(made, silence_s=timeout_s)
            code = self._engine.client.exec_inspect(made)["ExitCode"]
        if code is None:  # its output ended, it did not: only a lost shim does that
            raise SandboxLost(f"a helper in {self.name} does not end")
        timed_out = code == TIMED_OUT and time.monotonic() - began >= timeout_s
        return ExecResult(code, out, err, timed_out, truncated)

    def _output_of(self, id: str, *, silence_s: float) -> tuple[bytes, bytes, bool]:
        """Return what an exec wrote to its two streams, each up to the cap, and whether that was not all."""
        kept = {1: bytearray(), 2: bytearray()}
        truncated = False
        # A plain response, not the package's hijacked socket: that one loses what arrives with the headers.
        start = {"Detach": False, "Tty": False}
        with self._engine.post(f"/exec/{id}/start", start, silence_s=silence_s) as answer:
            while len(header := answer.raw.read(8)) == 8:
                chunk = answer.raw.read(int.from_bytes(header[4:], "big"))
                stream = kept[2 if header[0] == 2 else 1]
                truncated = truncated or len(stream) + len(chunk) > OUTPUT_CAP
                stream += chunk[: OUTPUT_CAP - len(stream)]
        return bytes(kept[1]), bytes(kept[2]), truncated

    def stop(self) -> None:
        """Kill every process at once; the file system stays."""
        self._hang_up()
        with self._engine.calling("stop", sandbox=self.name):
            try:
                if self._keeps_shell and self._told_to_end():
                    return
                self._engine.client.kill(self.id)
            except NotFound:
                raise SandboxLost(f"the container of {self.name} is gone") from None
            except APIError as error:
                if error.status_code == 409:  # it does not run
                    return
                if self._engine.client.inspect_container(self.id)["State"]["Running"]:
                    raise  # otherwise it ended while it was being killed
            self._engine.client.wait(self.id, timeout=self._engine.call_s, condition="not-running")

    def _told_to_end(self) -> bool:
        """Have PID 1 kill all and end; whether it did. Killed itself, it would first hang up the terminal."""
        self._engine.client.kill(self.id, "SIGTERM")
        with contextlib.suppress(requests.Timeout, requests.ConnectionError):
            self._engine.client.wait(self.id, timeout=_END_S, condition="not-running")
            return True
        return False

    def read_archive(self, path: str, *, limit_bytes: int) -> bytes | None:
        """Return a tar of `path` as it is, untrusted; None where nothing is there."""
        # Files of /etc may be mounts of the Engine's, which no layer holds.
        beside = Path(os.path.normpath(path)).parts[:2] not in (("/",), ("/", "etc"))
        if beside and (reader := self._reading()) is not None:
            return reader.read_archive(path, limit_bytes=limit_bytes)
        return self._read(self.id, path, limit_bytes=limit_bytes)

    def _reading(self) -> Machine | None:
        """Return where its files can be read without the Engine: of a stopped one, beside an Engine of this machine."""
        if self._reader is None and self._snapshot is None and (beside := self._runtime._judges) is not None:
            with self._engine.calling("inspect", sandbox=self.name):
                found = self._engine.client.inspect_container(self.id)
            if not found["State"]["Running"]:
                self._reader = beside.reader(self.spec, found)
        return self._reader

    def _read_no_more(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _read(self, id: str, path: str, *, limit_bytes: int) -> bytes | None:
        too_large = f"{path} in {self.name} is larger than {limit_bytes} bytes"
        with self._engine.calling(f"read {path} from", sandbox=self.name):
            try:
                answer = self._engine.get(f"/containers/{id}/archive", {"path": path})
            except APIError as error:
                # In so many words: any other 404 is a container that is gone, or a proxy's, and would read as no work.
                if not re.search(
                    "could not find the file|no such file|not a directory", str(error.explanation), re.I
                ):
                    raise
                return None
            with answer:
                stat, kept = _stat_of(answer), bytearray()
                if stat["mode"] & _GO_MODE_LINK and self._runtime.follows_links:
                    return _link_archive(path, stat["linkTarget"])
                if stat["size"] > limit_bytes:
                    raise OversizedArchive(too_large)
                for chunk in answer.iter_content(65_536):
                    kept += chunk
                    if len(kept) > limit_bytes:
                        raise OversizedArchive(too_large)
                return bytes(kept)

    def write_archive(self, archive: bytes) -> None:
        """Unpack a tar of ours over `/`; the daemon follows links within the container's root only."""
        self._read_no_more()
        with self._engine.calling("write to", sandbox=self.name):
            self._engine.client.put_archive(self.id, "/", archive)

    def run_in(self, service: str, argv: list[str], *, timeout_s: float, user: str = "") -> ExecResult:
        """Run a helper in one of the services beside it, under its own limit: nothing of ours is in there."""
        if self._beside is None:
            raise UnknownName("service", service, known=())
        return self._beside.run(service, argv, timeout_s=timeout_s, user=user)

    def read_from(self, service: str, path: str, *, limit_bytes: int) -> bytes | None:
        """Return a tar of a service's `path`, untrusted; None where nothing is there."""
        if self._beside is None:
            raise UnknownName("service", service, known=())
        return self._read(self._beside.id_of(service), path, limit_bytes=limit_bytes)

    def written_bytes(self) -> int:
        """Apparent size of what was written above the image."""
        with self._engine.calling("measure", sandbox=self.name):
            found = self._engine.client.containers(all=True, size=True, filters={"id": self.id})
            if not found:
                raise SandboxLost(f"the container of {self.name} is gone")
            before = self._snapshot.written_bytes if self._snapshot else 0
            return before + int(found[0].get("SizeRw") or 0)

    def changed_paths(self, *, limit: int = 200_000) -> tuple[str, ...]:
        """Paths added, changed or deleted since the image; untrusted names."""
        with self._engine.calling("list changes of", sandbox=self.name):
            return tuple(itertools.islice((path for path in self.changes() if path != GUEST), limit))

    def changes(self) -> dict[str, int]:
        """Return what became of each path since the image: 0 changed, 1 added, 2 deleted."""
        listed = self._engine.client.diff(self.id) or []
        since = {str(change["Path"]): int(change["Kind"]) for change in listed}
        return since if self._snapshot is None else committed.composed(self._snapshot.changes, since)

    def snapshot(self) -> committed.Committed:
        """Return its file system as an image of its own; the Engine pauses the container meanwhile."""
        written, most = self.written_bytes(), self.spec.limits.disk_mb << 20
        if written > most:
            raise OversizedArchive(f"{written} bytes were written to {self.name}, {most} are allowed")
        with self._engine.calling("make a snapshot of", sandbox=self.name):
            changes = self.changes()
            name, id = committed.commit(self._engine, self.id, self.name)
        shelf, starts = self._runtime.snapshots, self._runtime._start
        kept = committed.Committed(shelf, starts, name, id, self.image, changes, written)
        shelf.put(kept)
        return kept

    def close(self) -> None:
        """Remove the container and its volumes."""
        with self._closing:
            if not self._closed:
                self._close()

    def _close(self) -> None:
        self._hang_up()
        self._read_no_more()
        with self._engine.calling("remove", sandbox=self.name):
            if not remove(self._engine, self.id):
                self._remove_view()
        if self._beside is not None:
            self._beside.close()
        self._closed = True
        self._runtime._give_back(self._holder)
        self._runtime._forget(self.name)
        if self._snapshot is not None:
            self._snapshot.left_by(self.name)

    def _remove_view(self) -> None:
        """Remove its view of the trusted tree, which stays where somebody else removed the container alone."""
        mine = {"label": [f"{NAME_LABEL}={self.name}", f"{LABEL}={current_owner()}"]}
        for volume in self._engine.client.volumes(filters=mine).get("Volumes") or []:
            with contextlib.suppress(APIError):
                self._engine.client.remove_volume(volume["Name"], force=True)

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


def _stat_of(answer: requests.Response) -> dict[str, Any]:
    header = answer.headers["X-Docker-Container-Path-Stat"]
    stat: dict[str, Any] = json.loads(base64.b64decode(header))
    return stat


def _link_archive(path: str, target: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo(path.rstrip("/").rpartition("/")[2])
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        tar.addfile(entry)
    return made.getvalue()


def _empty_file(name: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.mode = 0o644
        tar.addfile(entry)
    return made.getvalue()


def _is_left(found: Mapping[str, Any]) -> bool:
    return is_orphan((found.get("Labels") or {}).get(LABEL))


def _close_at_exit(runtime: weakref.ref[Docker]) -> None:
    if (alive := runtime()) is not None:
        with contextlib.suppress(Exception):  # the interpreter is going; `tgym reap` removes what stays
            alive.close()
