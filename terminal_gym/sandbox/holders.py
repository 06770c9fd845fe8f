"""Network namespaces that are ready: each is held by an idle container, and lent to one sandbox at a time.

More than half of what a start costs the Engine is the network namespace of a container without a network; one that
joins a holder's pays none of it (`docs/decisions/0009`). A holder is lent again only while nothing in it is other than
it was when it was new: no socket is left, not even one that waits out its time, and the files that the Engine shares
along with the network were not touched. One that was changed for good is removed, and another made when it is wanted.

What the next sandbox can see of the last one: the counters of the loopback interface and of the protocols.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import stat
import tarfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from docker.errors import ImageNotFound
from docker.types import LogConfig

from terminal_gym.errors import SandboxError
from terminal_gym.sandbox.engine import Engine, remove
from terminal_gym.sandbox.reaper import LABEL, current_owner
from terminal_gym.trusted_runtime.tree import GUEST, INIT_ARGV, trusted_tree

_REPOSITORY, _TAG = "terminal-gym/holder", "1"  # an image with nothing in it
_WAITS = (*INIT_ARGV[:-1], "-c", "import signal; signal.pause()")
_MOST = 64  # of one process; each is a shim of the Engine's and an idle interpreter
_FAILURES = 3  # in a row: then this Engine is asked for no more
_MAKERS = 2  # at the same time: while they are made, sandboxes start the slow way
_MOST_BYTES = 1 << 16  # that are looked at in a file; a new one has some hundred
_TABLES = ("unix", "ip6_flowlabel")
# Addresses that the last sandbox has talked to would be remembered in it.
_FORGETS = {"net.ipv4.tcp_no_metrics_save": "1", "net.ipv4.tcp_fastopen": "0"}
_SHARED = ("HostsPath", "HostnamePath", "ResolvConfPath")


@dataclass(frozen=True)
class _File:
    """Whatever a root can change about a file, but its times: the Engine touches those at every start."""

    mode: int
    owner: tuple[int, int]
    size: int
    contents: bytes
    attributes: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class _Look:
    """What can be seen of a namespace from outside."""

    namespace: int  # its inode: process ids are given out again
    sockets: tuple[str, ...]  # how many there are, by kind; those that wait included
    others: tuple[str, ...]  # tables that sockets leave something in
    files: tuple[_File, ...]


@dataclass(frozen=True)
class Holder:
    """One idle container."""

    id: str
    pid: int  # as this host sees it
    shared: tuple[Path, ...]
    new: _Look

    def is_alive(self) -> bool:
        """Whether its namespace is still held."""
        look = _look(self.pid, self.shared)
        return look is not None and look.namespace == self.new.namespace

    def restore(self) -> None:
        """Make the shared files what they were, as the Engine does with a container's own before each start."""
        for path, file in zip(self.shared, self.new.files, strict=True):
            with contextlib.suppress(OSError):  # one that stays changed is seen when it would be lent again
                for name in os.listxattr(path):
                    os.removexattr(path, name)
                path.write_bytes(file.contents)
                os.chown(path, *file.owner)
                path.chmod(stat.S_IMODE(file.mode))


class Holders:
    """The holders of one process on one Engine of this machine, made as they are wanted."""

    def __init__(self, engine: Engine):
        self._engine, self._process = engine, os.getpid()
        self._prefix = f"tgym-holder-{uuid.uuid4().hex[:8]}-"
        self._lent: set[str] = set()
        self._free: list[Holder] = []
        self._lock = threading.Lock()
        self._makers: set[threading.Thread] = set()
        self._count = self._misses = self._failures = 0
        self._closed = False

    def take(self) -> Holder | None:
        """Return one in which nothing is, None where there is none now; then another is made for later."""
        if os.getpid() != self._process:
            return None  # a fork: they are its parent's
        with self._lock:
            for holder in list(self._free):
                look = _look(holder.pid, holder.shared)
                if look == holder.new:
                    self._free.remove(holder)
                    self._lent.add(holder.id)
                    return holder
                if look is None or (look.namespace, look.files) != (holder.new.namespace, holder.new.files):
                    self._free.remove(holder)
                    self._begin(functools.partial(self._remove, holder.id))
            self._misses += 1
            # Who wants one sandbox only is better off without.
            wanted = self._misses > 1 and self._failures < _FAILURES and not self._closed
            if wanted and self._count < _MOST and len(self._makers) < _MAKERS:
                self._count += 1
                self._begin(self._make)
        return None

    def give_back(self, holder: Holder) -> None:
        """Have it lent again, once its sandbox is gone."""
        with self._lock:
            self._lent.discard(holder.id)
            if not self._closed:
                self._free.append(holder)
                return
        self._remove(holder.id)

    def close(self) -> None:
        """Remove those that are not lent; the others go when they are given back."""
        with self._lock:
            self._closed = True
            makers = list(self._makers)
        for maker in makers:
            maker.join()
        with self._lock:
            free, self._free = self._free, []
        for holder in free:
            self._remove(holder.id)
        if self._misses > 1:
            self._sweep()

    def _sweep(self) -> None:
        """Remove those whose making or removal an Engine that was down has answered with nothing."""
        with contextlib.suppress(SandboxError), self._engine.calling("list the holders"):
            for left in self._engine.client.containers(all=True, filters={"name": self._prefix}):
                if left["Id"] not in self._lent:
                    remove(self._engine, left["Id"])

    def _begin(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._makers.discard(thread)

        thread = threading.Thread(target=run, name="tgym-holder", daemon=True)
        thread.start()  # `run` cannot end before the caller gives the lock back
        self._makers.add(thread)

    def _make(self) -> None:
        made = ""
        try:
            with self._engine.calling("hold a network"):
                made = self._created()
                self._engine.client.start(made)
                found = self._engine.client.inspect_container(made)
            shared = tuple(Path(found[name]) for name in _SHARED)
            look = _look(pid := int(found["State"]["Pid"]), shared)
            if look is not None:
                self._failures = 0
                self.give_back(Holder(made, pid, shared, look))
                return
        except (SandboxError, LookupError, ValueError, OSError):
            pass
        # It may be down just now, or not do it at all: sandboxes start the slow way, and tell where that does not go.
        self._failures += 1
        self._remove(made)

    def _created(self) -> str:
        client = self._engine.client
        host = client.create_host_config(
            binds=[f"{trusted_tree().path}:{GUEST}:ro"],
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            read_only=True,
            pids_limit=4,
            mem_limit=64 << 20,
            log_config=LogConfig(type="none"),
            sysctls=_FORGETS,
        )
        config = client.create_container_config(
            f"{_REPOSITORY}:{_TAG}",
            [],
            entrypoint=list(_WAITS),
            user="65534:65534",
            hostname="sandbox",
            labels={LABEL: str(current_owner())},
            host_config=host,
        )
        name = self._prefix + uuid.uuid4().hex[:8]
        try:
            return str(client.create_container_from_config(config, name)["Id"])
        except ImageNotFound:
            client.import_image_from_data(_nothing(), repository=_REPOSITORY, tag=_TAG)
            return str(client.create_container_from_config(config, name)["Id"])

    def _remove(self, id: str) -> None:
        with self._lock:
            self._count -= 1
        if not id:
            return
        # One that cannot be removed now is removed by `reap` once this process has ended.
        with contextlib.suppress(SandboxError), self._engine.calling("remove a holder"):
            remove(self._engine, id)


def _look(pid: int, shared: tuple[Path, ...]) -> _Look | None:
    """Return what can be seen of the namespace of a process, None where it has ended."""
    net = Path(f"/proc/{pid}/net")
    try:
        counted = "\n".join((net / name).read_text("ascii") for name in ("sockstat", "sockstat6"))
        return _Look(
            (net.parent / "ns/net").stat().st_ino,
            tuple(re.findall(r"\b(?:used|inuse|tw) \d+", counted)),
            tuple(
                (net / name).read_text("ascii", errors="replace") for name in _TABLES if (net / name).exists()
            ),
            tuple(_file(path) for path in shared),
        )
    except OSError:
        return None


def _file(path: Path) -> _File:
    status = path.stat()
    with path.open("rb") as opened:
        contents = opened.read(_MOST_BYTES)
    attributes = tuple((name, os.getxattr(path, name)) for name in sorted(os.listxattr(path)))
    return _File(status.st_mode, (status.st_uid, status.st_gid), status.st_size, contents, attributes)


def _nothing() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w"):
        pass
    return packed.getvalue()
