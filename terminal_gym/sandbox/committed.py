"""Snapshots on an Engine: a container's file system, committed as an image that carries its owner's lease.

The image goes once its snapshot is closed and the last container that stands on it is removed; a dead owner's goes with
`reap`, children before parents.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from docker.errors import APIError, ImageNotFound

from terminal_gym.errors import NotSupported, SandboxError, StartFailed
from terminal_gym.sandbox.base import Image, Sandbox, SandboxSpec
from terminal_gym.sandbox.engine import Engine
from terminal_gym.sandbox.reaper import LABEL, current_owner, is_orphan

SNAPSHOT = "terminal-gym.snapshot"  # image label: the sandbox that it was made of
REPOSITORY = "localhost/terminal-gym/snapshot"
_PAUSES = 3  # tries: a freezer gives up on a machine that forks all the time
_CHANGED, _ADDED, _DELETED = 0, 1, 2  # as the Engine's list of changes says it


class Shelf:
    """The snapshots that one runtime still holds on its Engine; a thread may put and take while another looks."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self._mutex = threading.Lock()
        self._held = set[Committed]()

    def __iter__(self) -> Iterator[Committed]:
        with self._mutex:
            return iter(list(self._held))

    def put(self, snapshot: Committed) -> None:
        with self._mutex:
            self._held.add(snapshot)

    def take(self, snapshot: Committed) -> bool:
        """Return whether it was here; it no longer is."""
        with self._mutex:
            found = snapshot in self._held
            self._held.discard(snapshot)
        return found


class Starts(Protocol):
    """What starts a container from an image, or from a snapshot of one that stood on it."""

    def __call__(self, spec: SandboxSpec, image: Image, snapshot: Committed, /) -> Sandbox: ...


class Committed:
    """An image made of a container; see `Snapshot` in base.py.

    Args:
        shelf: Where it stands until it is removed.
        starts: Starts a container from it.
        name: Of the image, on the Engine.
        id: Of the image, on the Engine.
        image: What the container stood on, with its environment: the committed one also has that of our PID 1.
        changes: Since that image, by path.
        written_bytes: Since that image. A file that is written again later counts twice.
    """

    def __init__(
        self,
        shelf: Shelf,
        starts: Starts,
        name: str,
        id: str,
        image: Image,
        changes: Mapping[str, int],
        written_bytes: int,
    ):
        self.name, self.id, self.image = name, id, image
        self.changes, self.written_bytes = dict(changes), written_bytes
        self._shelf, self._starts = shelf, starts
        self._mutex = threading.Lock()
        self._closed, self._users = False, set[str]()

    def start(self, spec: SandboxSpec) -> Sandbox:
        """Return a container that goes on from here, not yet booted."""
        with self._mutex:
            if self._closed:
                raise StartFailed(f"the snapshot that {spec.name} would begin with is closed")
            self._users.add(spec.name)
        try:
            return self._starts(spec, self.image, self)
        except BaseException:
            self.left_by(spec.name)
            raise

    def left_by(self, name: str) -> None:
        """Take note that a sandbox of that name no longer stands on it."""
        with self._mutex:
            self._users.discard(name)
        with contextlib.suppress(
            SandboxError
        ):  # the sandbox is gone; the image goes with the runtime, or with `reap`
            self._remove_unused()

    def close(self) -> None:
        """Remove the image, once no container stands on it. Safe to call again."""
        with self._mutex:
            self._closed = True
        self._remove_unused()

    def _remove_unused(self) -> None:
        with self._mutex:
            if not self._closed or self._users:
                return
        if not self._shelf.take(self):
            return
        try:
            with self._shelf.engine.calling("remove a snapshot"):
                remove(self._shelf.engine, self.name)
        except BaseException:
            self._shelf.put(self)  # the next close, or `reap`, tries again
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def commit(engine: Engine, container: str, name: str) -> tuple[str, str]:
    """Return name and id of a new image of a container's file system.

    Raises:
        NotSupported: The container keeps some folders in volumes, which an image cannot hold.
    """
    client = engine.client
    mounts = client.inspect_container(container).get("Mounts") or []
    volumes = [str(mount["Destination"]) for mount in mounts if _is_own_volume(mount)]
    if volumes:
        advice = "A snapshot cannot hold them. Remove VOLUME from the image, or use the namespace runtime."
        raise NotSupported(f"{name} keeps {', '.join(volumes)} in volumes of its own. {advice}")
    labels, tag = {LABEL: str(current_owner()), SNAPSHOT: name}, secrets.token_hex(8)
    # Docker reads both, Podman the instructions only.
    for left in reversed(range(_PAUSES)):
        try:
            told = client.commit(
                container,
                repository=REPOSITORY,
                tag=tag,
                pause=True,
                conf={"Labels": labels},
                changes=[f"LABEL {key}={value}" for key, value in labels.items()],
            )
            break
        except APIError as error:
            if not left or "pausing" not in str(error.explanation):
                raise
    return f"{REPOSITORY}:{tag}", str(told["Id"])


def _is_own_volume(mount: Mapping[str, Any]) -> bool:
    return mount.get("Type") == "volume" and not str(mount["Destination"]).startswith("/tg")


def remove(engine: Engine, name: str) -> None:
    """Remove a snapshot's image, if it is there. One that others were made of loses its name, and goes with them."""
    with contextlib.suppress(ImageNotFound):
        engine.client.remove_image(name)


def reap(engine: Engine) -> list[str]:
    """Remove the snapshots of dead owners, children before parents; returns their names."""
    removed: list[str] = []
    found = engine.client.images(filters={"label": SNAPSHOT}, all=True)
    for one in sorted(found, key=lambda image: int(image["Created"]), reverse=True):
        if is_orphan((one.get("Labels") or {}).get(LABEL)):
            with contextlib.suppress(APIError):  # a container of somebody alive stands on it
                name = next(iter(one.get("RepoTags") or []), str(one["Id"]))
                remove(engine, str(one["Id"]) if "<none>" in name else name)
                removed.append(name)
    return removed


def composed(before: Mapping[str, int], since: Mapping[str, int]) -> dict[str, int]:
    """Return the changes since the image, of those until a snapshot and those since it.

    >>> composed({"/new": 1, "/old": 0}, {"/new": 2, "/old": 2})
    {'/old': 2}
    """
    changes = dict(before)
    for path, kind in since.items():
        was = before.get(path)
        if kind == _DELETED:  # the list of changes names a folder that is gone, not what was in it
            changes = {old: one for old, one in changes.items() if not old.startswith(f"{path}/")}
        if kind == _DELETED and was == _ADDED:
            changes.pop(path, None)
        elif was == _ADDED:
            changes[path] = _ADDED
        elif was == _DELETED and kind == _ADDED:
            changes[path] = _CHANGED
        else:
            changes[path] = kind
    return changes
