"""Embedded sandboxes: namespaces over an overlay, no daemon, as root or as an ordinary user.

Isolated: processes, mounts, network (where the task has none), host name, System V IPC, capabilities. Limited:
what is written, open files, file size, and, with writable cgroups, memory, processes and cores. Not promised:
protection from kernel exploits, a filter of system calls, and, for an ordinary user, a second uid: everything in the
sandbox is that user. `docs/sandboxing.md` has the whole list.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import platform
import pty
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pexpect.fdpexpect import fdspawn

from terminal_gym.errors import (
    NotSupported,
    OversizedArchive,
    RuntimeUnavailable,
    SandboxLost,
    StartFailed,
    TerminalGymError,
    UnknownName,
)
from terminal_gym.sandbox import cgroup, guard, keeper, launch, nursery, recipe, rootfs
from terminal_gym.sandbox.base import ExecResult, Image, SandboxSpec
from terminal_gym.sandbox.handshake import shake_hands
from terminal_gym.sandbox.reaper import current_owner, is_orphan
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Limits
from terminal_gym.trusted_runtime.orders import Orders
from terminal_gym.trusted_runtime.tree import trusted_tree

_NOTHING_THERE, _OVER_LIMIT = 3, 4  # exit codes of guest/archive.py
_ARCHIVE_S = 60.0
_COPIES = 3  # tries of a copy while programs run on
_END_S = 2  # seconds that PID 1 gets to kill everything
_LEAVING_S = 2.0
_GRACE_S = 5.0  # what a guard that is itself stuck gets on top of its limit


class Namespace:
    """Sandboxes from the kernel's namespaces."""

    name: str = "namespace"

    def __init__(
        self,
        store: Path | rootfs.Store | None = None,
        *,
        host: bool = True,
        starter: str = "",
        in_memory: bool = True,
    ):
        """Keep images in `store` (default: the user's cache).

        Args:
            host: Whether this machine's own root may stand in for a base image where a recipe allows it.
            starter: "bubblewrap" to have sandboxes started by that and by no nursery; part of the runtime's name.
            in_memory: Keep what is written in memory, bounded by `disk_mb`; else on the disk, where nothing bounds it.
        """
        if starter:
            self.name = f"{type(self).name}:{starter}"
        self.starter = starter
        self.store = (
            store if isinstance(store, rootfs.Store) else rootfs.Store(store or rootfs.default_folder())
        )
        self._in_memory = in_memory
        self.single_uid = os.geteuid() != 0
        self._host = host
        self._run = Path(tempfile.gettempdir()) / f"tgym-{os.geteuid()}"
        self._held: dict[str, Machine] = {}
        self._kept: set[Kept] = set()
        self._lock = threading.Lock()
        self._starts = threading.BoundedSemaphore(max(4, 2 * (os.cpu_count() or 1)))
        self._reaped, self._process = False, os.getpid()
        atexit.register(_close_at_exit, weakref.ref(self))

    def check(self) -> None:
        """Raise RuntimeUnavailable, with what to do about it, where sandboxes cannot be started."""
        if tools := keeper.missing_tools():
            raise RuntimeUnavailable(f"{', '.join(tools)} is missing. Install util-linux and findutils.")
        if self.starter and shutil.which("bwrap") is None:
            raise RuntimeUnavailable(f"bwrap is missing, which {self.name} asks for. Install bubblewrap.")
        if self.single_uid:
            _check_user_namespaces()
        try:
            self._mount_one()
        except StartFailed as error:
            if isinstance(error.__cause__, OSError):  # a full disk: it says so already
                raise RuntimeUnavailable(str(error)) from error
            advice = (
                "An overlay needs CONFIG_OVERLAY_FS, for an ordinary user Linux 5.11 or later; or use docker."
            )
            raise RuntimeUnavailable(f"{error}. {advice}") from error

    def can_mount(self) -> bool:
        """Whether the kernel mounts what a sandbox stands on."""
        try:
            self._mount_one()
        except StartFailed:
            return False
        return True

    def _mount_one(self) -> None:
        with _named("a sandbox"), self._folder("check") as folder:
            empty = folder / "empty"
            empty.mkdir()
            keeper.Keeper(
                folder,
                keeper.Rootfs((empty,)),
                size_mb=self._size_mb(Limits(disk_mb=1)),
                by_nursery=nursery.is_possible() and not self.starter,
            ).close()

    def kind_of_disk(self) -> str:
        """Return the type of the file system on which sandboxes have their folders, "" where it is not known."""
        asked = subprocess.run(
            ["stat", "--file-system", "--format=%T", str(self._run.parent)],
            capture_output=True,
            text=True,
            check=False,
        )
        return asked.stdout.strip()

    def missing_limits(self) -> tuple[str, ...]:
        """Return which fields of Limits cannot be enforced here."""
        missing = cgroup.missing()
        if self.single_uid and _kernel() >= (5, 14):
            missing = tuple(name for name in missing if name != "pids")
        return missing if self._size_mb(Limits()) else (*missing, "disk_mb")

    def _size_mb(self, limits: Limits) -> int | None:
        """None where an overlay cannot write to a tmpfs: before Linux 6.6 it has no attributes of users."""
        can = self._in_memory and not (self.single_uid and _kernel() < (6, 6))
        return limits.disk_mb if can else None

    def image(self, name: str) -> Image:
        """Return the image of that name; `host` is this machine's own root.

        Raises:
            ImageMissing: The store does not hold it.
        """
        return self.store.image(name).described()

    def build(self, recipe_: ImageRecipe, *, log: Callable[[str], None] | None = None) -> Image:
        """Make the image of `recipe_`, or return it where it exists already.

        Raises:
            BuildFailed: The recipe does not build.
        """
        builder = recipe.Builder(
            self.store, self._run_alone, host=self._host, log=log or (lambda _line: None)
        )
        return builder.build(recipe_).described()

    def remove_image(self, name: str) -> None:
        """Remove an image, if it is there, and the layers that no other image needs.

        Raises:
            StartFailed: A sandbox of some process still uses it.
        """
        self.await_unused(name)
        self.store.remove(name)

    def await_unused(self, name: str) -> None:
        """Wait until no sandbox of any process stands on layers that would go with that image.

        Raises:
            StartFailed: One still does.
        """
        until = (
            time.monotonic() + _LEAVING_S
        )  # a judge that has spoken leaves beside what its caller does next
        while used := [folder.name for folder in self._run.glob("*/") if self._stands_on(folder, name)]:
            if time.monotonic() > until:
                raise StartFailed(f"the {self.name} runtime could not remove image {name}: {used[0]} uses it")
            time.sleep(0.01)

    def _stands_on(self, folder: Path, name: str) -> bool:
        """Say whether the sandbox or the snapshot in `folder` needs a layer that would go with the image."""
        try:
            needed = (folder / "layers").read_text("utf-8").splitlines()
        except OSError:
            return False
        return any(layer.name in needed for layer in self.store.own_layers_of(name))

    def image_bytes(self, name: str) -> int:
        """Return what an image's layers take on the disk."""
        return sum(
            file.lstat().st_blocks * 512 for layer in self.store.layers_of(name) for file in layer.rglob("*")
        )

    def disk_free_bytes(self) -> int | None:
        """Return what is free where images are kept."""
        folder = next(path for path in (self.store.folder, *self.store.folder.parents) if path.exists())
        return shutil.disk_usage(folder).free

    def load(self, path: Path, name: str | None = None) -> Image:
        """Take an image from a docker-archive or an OCI layout (a tar or a folder) into the store."""
        return rootfs.load(self.store, path, name).described()

    def start(self, spec: SandboxSpec) -> Machine:
        """Return a sandbox whose file system is mounted, and which is not yet booted.

        Raises:
            ImageMissing: The image is not there.
            StartFailed: The kernel refused, or the name is taken.
        """
        if spec.services or spec.beside:
            advice = "Use --runtime docker for this task."
            raise NotSupported(
                f"The namespace runtime starts one machine, and no services beside it. {advice}"
            )
        return self._start(spec, self.store.image(spec.image))

    def show(self, name: str, stored: rootfs.Stored) -> Machine:
        """Return a sandbox over layers that are in no image, for reading what is in them; see `start`."""
        return self._start(SandboxSpec(stored.name, name), stored, preset=False)

    def _start(
        self,
        spec: SandboxSpec,
        stored: rootfs.Stored,
        begin_with: Path | None = None,
        *,
        preset: bool = True,
    ) -> Machine:
        self._reap_once()
        peer = self._peer(spec.share_network_of)
        with self._lock:
            if spec.name in self._held:
                raise StartFailed(f"a sandbox named {spec.name!r} is already held by this process")
            machine = self._held[spec.name] = Machine(self, spec, stored, peer)
        try:
            with self._starts, _named(spec.name):
                machine.mount(begin_with, preset=preset)
        except BaseException:
            machine.close()
            raise
        return machine

    def _peer(self, name: str | None) -> Machine | None:
        if name is None:
            return None
        with self._lock:
            peer = self._held.get(name)
        if peer is None:
            raise SandboxLost(f"no sandbox named {name!r} is held, so its network cannot be joined")
        return peer

    @contextlib.contextmanager
    def _folder(self, name: str) -> Iterator[Path]:
        folder = self._new_folder(name)
        try:
            yield folder
        finally:
            _remove(folder)

    def _new_folder(self, name: str) -> Path:
        self._run.mkdir(mode=0o700, exist_ok=True)
        status = self._run.lstat()
        if status.st_uid != os.geteuid() or not self._run.is_dir() or self._run.is_symlink():
            raise StartFailed(f"{self._run} belongs to somebody else. Remove it, or set TMPDIR.")
        safe, owner = re.sub(r"[^a-zA-Z0-9_.-]", "-", name)[:80], current_owner()
        # The owner is in the name as well: one that is killed before it wrote the lease is known by that.
        folder = Path(tempfile.mkdtemp(prefix=f"{safe}-{owner.pid}.{owner.start}-", dir=self._run))
        (folder / "lease").write_text(str(owner), encoding="ascii")
        return folder

    def _run_alone(
        self, root: keeper.Rootfs, argv: list[str], *, into: Path, network: bool, stdin: bytes
    ) -> tuple[int, bytes]:
        """Run trusted interpreter arguments over `root`; what it writes stays in `into`/m/u. For builds."""
        limits = Limits(disk_mb=1 << 20, network=network)
        held = keeper.Keeper(into, root, size_mb=None, network=network)
        try:
            place = launch.Place(held, trusted_tree().path, "host" if network else "none", limits)
            ran = subprocess.run(
                launch.alone_command(place, argv),
                input=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=launch.BARE_ENV,
                check=False,
            )
        finally:
            held.close()
        return ran.returncode, ran.stdout

    def reap(self) -> tuple[str, ...]:
        """Remove folders and cgroups whose owner is dead; mounts and processes went with it. Returns their names."""
        removed = []
        for folder in self._run.glob("*/") if self._run.is_dir() else ():
            if _is_left(folder):
                cgroup.remove_named(folder.name)
                _remove(folder)
                removed.append(folder.name)
        return tuple(removed)

    def _reap_once(self) -> None:
        with self._lock:
            first, self._reaped = not self._reaped, True
        if first:
            self.reap()

    def close(self) -> None:
        """Close every sandbox and every snapshot that this runtime still holds."""
        if os.getpid() != self._process:
            return  # a fork: they are its parent's
        with self._lock:
            held, kept = list(self._held.values()), list(self._kept)
        for machine in held:
            machine.close()
        for snapshot in kept:
            snapshot.close()
        with contextlib.suppress(OSError):
            self._run.rmdir()

    def _forget(self, machine: Machine) -> None:
        with self._lock:
            if self._held.get(machine.name) is machine:
                del self._held[machine.name]


def _is_left(folder: Path) -> bool:
    """Say whether the owner of a sandbox's folder is dead."""
    try:
        lease = (folder / "lease").read_text("ascii")
    except (OSError, ValueError):
        lease = ""
    if not lease and (named := re.fullmatch(r".*-(\d+)\.(\d+)-[^-]*", folder.name)):
        return replace(current_owner(), pid=int(named[1]), start=int(named[2])).is_dead()
    return is_orphan(lease)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn what the file system says, such as that it is full, into an error that names the sandbox."""
    try:
        yield
    except TerminalGymError:
        raise
    except OSError as error:
        advice = "Make room where TMPDIR points." if error.errno == errno.ENOSPC else "See `tgym doctor`."
        raise StartFailed(f"{name} cannot be prepared: {error}. {advice}") from error


class Machine:
    """One sandbox; see `Sandbox` in base.py for what each method promises."""

    def __init__(self, runtime: Namespace, spec: SandboxSpec, stored: rootfs.Stored, peer: Machine | None):
        self.name, self.spec, self.image = spec.name, spec, stored.described()
        self._runtime, self._stored, self._peer = runtime, stored, peer
        self._folder: Path | None = None
        self._keeper: keeper.Keeper | None = None
        self._cgroup: cgroup.Cgroup | None = None
        self._line: Line | None = None
        self._closing = threading.Lock()

    def mount(self, begin_with: Path | None = None, *, preset: bool = True) -> None:
        """Make the file system; `Namespace.start` calls it."""
        limits = self.spec.limits
        self._folder = self._runtime._new_folder(self.name)
        _note_layers(self._folder, self._stored)
        self._cgroup = cgroup.Cgroup(self._folder.name, limits)
        users_of = self._peer._keeper if self._peer else None
        self._keeper = keeper.Keeper(
            self._folder,
            replace(self._runtime.store.rootfs(self._stored), preset=preset),
            size_mb=self._runtime._size_mb(limits),
            network=limits.network,
            users_of=users_of,
            begin_with=begin_with,
            by_nursery=nursery.is_possible() and not self._runtime.starter,
        )

    def _place(self) -> launch.Place:
        if self._keeper is None or self._cgroup is None:
            raise SandboxLost(f"{self.name} is closed")
        network = "joined" if self._peer else "host" if self.spec.limits.network else "none"
        tree, groups = trusted_tree().path, self._cgroup.entrances
        return launch.Place(self._keeper, tree, network, self.spec.limits, groups)

    def boot(self, orders: Orders, *, rows: int = 40, cols: int = 160, deadline_s: float = 30.0) -> Line:
        """Start PID 1 with `orders`; returns its terminal once it has accepted them."""
        self.stop()
        network_of = None
        if self._peer is not None:
            network_of = self._peer._line.init_pid() if self._peer._line else None
            if network_of is None:
                raise StartFailed(f"{self._peer.name} is not booted, so its network cannot be joined")
        with self._runtime._starts:
            place = self._place()
            self._line = Line(
                lambda terminal: launch.init(place, terminal, network_of=network_of),
                rows,
                cols,
                ran_out_of_memory=self._cgroup_was_full,
            )
            try:
                shake_hands(self._line.stream, orders, deadline_s=deadline_s)
            except BaseException:
                self.stop()
                raise
        self._line.keeps_shell = orders.kind == "shell"
        return self._line

    def _cgroup_was_full(self) -> bool:
        return self._cgroup is not None and self._cgroup.killed_for_memory()

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
        init = self._line.init_pid() if self._line else None
        if init is None:
            raise SandboxLost(f"{self.name} is not booted")
        variables = dict(self.image.env) if env is None else dict(env)
        helper = launch.helper(argv, timeout_s=timeout_s, user=user, env=variables, cwd=cwd)
        began = time.monotonic()
        command = launch.beside_command(self._place(), init, helper)
        code, out, err, truncated = _collect(
            lambda out, err: subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=launch.BARE_ENV
            ),
            limit=guard.OUTPUT_CAP,
            timeout_s=timeout_s + _GRACE_S,
        )
        timed_out = code == guard.TIMED_OUT and time.monotonic() - began >= timeout_s
        return ExecResult(code, out, err, timed_out, truncated)

    def stop(self) -> None:
        """Kill every process at once; the file system stays."""
        line, self._line = self._line, None
        if line is not None:
            line.end()

    def read_archive(self, path: str, *, limit_bytes: int) -> bytes | None:
        """Return a tar of `path` as it is, untrusted; None where nothing is there."""
        # The packer is ours and speaks to nobody: a network of its own would be made and taken down for nothing.
        place = self._place()._replace(network="host", limits=Limits(), groups=())
        code, out, err, truncated = _collect(
            lambda out, err: launch.pack(place, path, limit_bytes, out=out, err=err),
            limit=2 * limit_bytes + (1 << 20),  # headers and padding come on top of what the guest counts
            timeout_s=_ARCHIVE_S,
        )
        if code == _NOTHING_THERE:
            return None
        if code == _OVER_LIMIT or truncated:
            raise OversizedArchive(f"{path} in {self.name} is larger than {limit_bytes} bytes")
        if (
            code != 0 or not out
        ):  # an archive of nothing is not empty: the packer ends each with a block of zeros
            raise SandboxLost(f"{path} in {self.name} cannot be read: {err[-500:].decode(errors='replace')}")
        return out

    def write_archive(self, archive: bytes) -> None:
        """Unpack a tar of ours over `/`."""
        ran = subprocess.run(
            launch.alone_command(
                self._place()._replace(network="none", limits=Limits(), groups=()), ["-c", _UNTAR]
            ),
            input=archive,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=launch.BARE_ENV,
            check=False,
            timeout=_ARCHIVE_S,
        )
        if ran.returncode != 0:
            raise SandboxLost(
                f"nothing can be written to {self.name}: {ran.stdout[-500:].decode('utf-8', 'replace')}"
            )

    def run_in(self, service: str, argv: list[str], *, timeout_s: float, user: str = "") -> ExecResult:
        """Not here: there are no services."""
        raise UnknownName("service", service, known=())

    def read_from(self, service: str, path: str, *, limit_bytes: int) -> bytes | None:
        """Not here: there are no services."""
        raise UnknownName("service", service, known=())

    def written_bytes(self) -> int:
        """Apparent size of what was written above the image."""
        return sum(size for _, size in self._place().keeper.written())

    def changed_paths(self, *, limit: int = 200_000) -> tuple[str, ...]:
        """Paths added, changed or deleted since the image; untrusted names."""
        names = (f"/{path}" for path, _ in self._place().keeper.written())
        return tuple(name for _, name in zip(range(limit), names, strict=False))

    def snapshot(self) -> Kept:
        """Return its file system as it is now; processes are held still meanwhile where there are freezers."""
        place = self._place()
        written, most = self.written_bytes(), self.spec.limits.disk_mb << 20
        if written > most:
            raise OversizedArchive(f"{written} bytes were written to {self.name}, {most} are allowed")
        folder = self._runtime._new_folder(f"snapshot-{self.name}")
        try:
            _note_layers(folder, self._stored)
            assert self._cgroup is not None
            with self._cgroup.frozen() as still:
                _copied(place.keeper, folder / "u", tries=1 if still else _COPIES)
        except BaseException:
            _remove(folder)
            raise
        return Kept(self._runtime, folder, self._stored)

    def close(self) -> None:
        """Kill what runs and remove the file system."""
        with self._closing:
            self.stop()
            if self._keeper is not None:
                self._keeper.close()
                self._keeper = None
            if self._cgroup is not None:
                self._cgroup.close()
                self._cgroup = None
            if self._folder is not None:
                _remove(self._folder)
                self._folder = None
        self._runtime._forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Kept:
    """A copy of what was written to a sandbox, in a folder with a lease; see `Snapshot` in base.py.

    A sandbox that goes on from here gets a copy of its own above the same layers of the image: so hard links, deleted
    files and sizes are what they were, and closing this takes nothing away from it.
    """

    def __init__(self, runtime: Namespace, folder: Path, stored: rootfs.Stored):
        self.image = stored.described()
        self._runtime, self._folder, self._stored = runtime, folder, stored
        self._mutex = threading.Lock()
        self._closed, self._starting = False, 0
        with runtime._lock:
            runtime._kept.add(self)

    def start(self, spec: SandboxSpec) -> Machine:
        """Return a sandbox that goes on from here, not yet booted."""
        with self._mutex:
            if self._closed:
                raise StartFailed(f"the snapshot that {spec.name} would begin with is closed")
            self._starting += 1
        try:
            return self._runtime._start(spec, self._stored, self._folder / "u")
        finally:
            self._leave(-1)

    def close(self) -> None:
        """Remove the copy, once nobody is copying from it. Safe to call again."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
        self._leave(0)

    def _leave(self, starting: int) -> None:
        with self._mutex:
            self._starting += starting
            if not self._closed or self._starting:
                return
        with self._runtime._lock:
            known = self in self._runtime._kept
            self._runtime._kept.discard(self)
        if known:
            _remove(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _copied(held: keeper.Keeper, to: Path, *, tries: int) -> None:
    """Copy what was written; again where files came and went meanwhile, as they may where nothing holds still."""
    for left in reversed(range(tries)):
        try:
            held.copy_written(to)
            return
        except StartFailed:
            if not left:
                raise
            _remove(to)


def _note_layers(folder: Path, stored: rootfs.Stored) -> None:
    """Write down what a folder of ours needs, for who would remove the image."""
    (folder / "layers").write_text("".join(f"{name}\n" for name in stored.layers), encoding="utf-8")


class Line:
    """The terminal of a booted sandbox; a Console in the words of base.py."""

    def __init__(
        self,
        start: Callable[[int], launch.Started],
        rows: int,
        cols: int,
        *,
        ran_out_of_memory: Callable[[], bool] = lambda: False,
    ):
        self._ran_out_of_memory = ran_out_of_memory
        # A terminal that no session owns yet: PID 1 makes it its own. `pexpect.spawn` would take it for the
        # starter, and would fork this process, which may have threads.
        ours, theirs = pty.openpty()
        try:
            _resize(ours, rows, cols)
            self._process = start(theirs)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._fd = ours
        # By poll: select knows no descriptor above 1,023, and a process with many sandboxes has them.
        self.stream: fdspawn[bytes] = fdspawn(ours, maxread=131_072, searchwindowsize=300, use_poll=True)
        self._init: int | None = None
        self.keeps_shell = False

    def resize(self, rows: int, cols: int) -> None:
        """Give the terminal another size, in cells."""
        _resize(self._fd, rows, cols)

    def init_pid(self) -> int | None:
        """PID 1 as this host sees it, None once it has ended."""
        if self._process.poll() is not None:
            return None
        if self._init is None:
            self._init = launch.init_pid(self._process)
        return self._init

    def ask_for_hint(self) -> None:
        """Ask PID 1 to say, once, that the foreground process waits for input."""
        if (pid := self.init_pid()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)

    def exit_code(self) -> int | None:
        """Status of PID 1 once it has ended."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def lost(self, *, ended: bool, owed: bool = True) -> str:
        """Return what befell it from outside of the sandbox; see `Console` in base.py."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_GRACE_S if ended else 0.05)
        if self.exit_code() != 128 + signal.SIGKILL or self._ran_out_of_memory():
            return ""
        return "it was killed from outside"

    def end(self) -> None:
        """Kill PID 1, and with it all its processes; wait until they are gone; close the terminal."""
        pid = self.init_pid()
        if pid is not None:
            _kill_and_wait(pid, keeps_shell=self.keeps_shell)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_GRACE_S if pid is not None else 0.05)
        if self._process.returncode is None:
            self._process.kill()  # bubblewrap dies with it, and PID 1 with bubblewrap
            self._process.wait()
        if not self.stream.closed:
            self.stream.close()


_UNTAR = """
import io, sys, tarfile
with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()), mode="r:") as archive:
    archive.extractall("/", filter="fully_trusted")
"""


def _resize(fd: int, rows: int, cols: int) -> None:
    import fcntl
    import struct
    import termios

    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def _kill_and_wait(pid: int, *, keeps_shell: bool) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            # A keeper of a shell then kills all and ends; killed itself, it would first hang up the terminal.
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not (keeps_shell and nursery.is_readable(handle, _END_S)):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        nursery.is_readable(handle, 30.0)
    finally:
        os.close(handle)


def _collect(
    start: Callable[[int, int], launch.Started], *, limit: int, timeout_s: float
) -> tuple[int, bytes, bytes, bool]:
    """Run what `start` starts with a stdout and a stderr.

    Returns:
        (exit code, stdout, stderr, whether either was cut at `limit` bytes).
    """
    import selectors

    out, err, cut = bytearray(), bytearray(), False
    until = time.monotonic() + timeout_s
    with contextlib.ExitStack() as opened, selectors.DefaultSelector() as ready:
        theirs = []
        for kept in (out, err):
            read_end, write_end = os.pipe()
            opened.callback(os.close, read_end)
            ready.register(read_end, selectors.EVENT_READ, kept)
            theirs.append(write_end)
        try:
            process = start(*theirs)
        finally:
            for fd in theirs:
                os.close(fd)
        while ready.get_map() and (left := until - time.monotonic()) > 0:
            # A child that went into the background keeps the pipes; what counts is that the program has ended. That is
            # asked before looking: what it wrote before its end is then there to be seen, however late this thread is.
            has_ended = process.poll() is not None
            events = ready.select(0 if has_ended else min(left, 0.05))
            for key, _ in events:
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    ready.unregister(key.fileobj)
                cut = cut or len(key.data) + len(chunk) > limit
                key.data.extend(chunk[: limit - len(key.data)])
            if has_ended and not events:
                break
        if process.poll() is None and time.monotonic() >= until:
            process.kill()
        code = process.wait()
    return (code if code >= 0 else 128 - code), bytes(out), bytes(err), cut


def _remove(folder: Path) -> None:
    """Remove a folder of ours; an overlay's work folder denies even its owner, so modes are opened first."""

    def open_up(_function: object, path: str, _error: object) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            if not Path(path).is_symlink():
                Path(path).chmod(0o700)
            shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()

    shutil.rmtree(folder, onerror=open_up)


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])


def _check_user_namespaces() -> None:
    for knob, bad in (
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
        ("user/max_user_namespaces", "0"),
    ):
        path = Path("/proc/sys") / knob
        if path.exists() and path.read_text("ascii").strip() == bad:
            name = knob.replace("/", ".")
            raise RuntimeUnavailable(
                f"{name} is {bad}. An ordinary user needs another value: ask root (sysctl)."
            )


def _close_at_exit(runtime: weakref.ref[Namespace]) -> None:
    if (alive := runtime()) is not None:
        with contextlib.suppress(
            Exception
        ):  # the interpreter is going; what stays is reaped at the next start
            alive.close()
