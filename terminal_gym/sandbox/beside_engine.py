"""Where the judges of an Engine's tasks stand: embedded sandboxes over the Engine's own layers of the image.

A container costs a quarter of a second of processor time before anything runs in it, and an interpreter that imports
pytest as much again; a child of the nursery costs neither (`docs/decisions/0008`). It needs root, this machine's own
Engine with the storage driver overlay2, and control groups for the limits. Elsewhere, and where an OCI runtime is named
("docker:runc"), judges stand in containers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from terminal_gym.errors import StartFailed
from terminal_gym.sandbox import cgroup, images, nursery, rootfs
from terminal_gym.sandbox.base import SandboxSpec
from terminal_gym.sandbox.engine import Engine
from terminal_gym.sandbox.namespace import Machine, Namespace
from terminal_gym.trusted_runtime.tree import GUEST

# A layer of overlay2 is `<root>/overlay2/<id>/diff`; the file `link` beside that names a short link to it in
# `<root>/overlay2/l`, for mount options have a length limit. Source: Docker's documentation of the driver.
_DRIVER = "overlay2"
_IN_MEMORY = ("tmpfs", "ramfs")

Inspect = Callable[[str], Mapping[str, Any]]


class Judges:
    """Embedded sandboxes on the images of one Engine.

    Args:
        layers: The folder of short links to the Engine's layers.
        inspect: Tells what the Engine says of an image; raises ImageMissing.
    """

    def __init__(self, name: str, layers: Path, inspect: Inspect):
        self._layers = _Layers(layers, inspect)
        self._machines = Namespace(self._layers, host=False, in_memory=False)
        self._machines.name = name

    def can_write(self) -> bool:
        """Whether what a judge writes can lie on this machine's disk, below an overlay."""
        return self._machines.kind_of_disk() not in _IN_MEMORY and self._machines.can_mount()

    def start(self, spec: SandboxSpec) -> Machine | None:
        """Return a sandbox as `Runtime.start` does, None where it has to be a container.

        Raises:
            ImageMissing: The Engine has no such image.
        """
        try:
            return self._machines.start(spec)
        except (_NoLayers, StartFailed):
            return None

    def reader(self, spec: SandboxSpec, written: Mapping[str, Any]) -> Machine | None:
        """Return a sandbox that shows what a stopped container holds, in which nothing is ever booted; None: it cannot.

        The Engine's own way to read starts a process of its own, with all of the daemon in it, for each path.

        Args:
            spec: The container's.
            written: What the Engine says of the container.
        """
        # What the image keeps in a volume is in no layer.
        if any(mount["Destination"] != GUEST for mount in written.get("Mounts") or []):
            return None
        try:
            return self._machines.show(
                f"read-{spec.name}", rootfs.Stored(spec.image, self._layers.links(written))
            )
        except (_NoLayers, StartFailed):
            return None

    def await_unused(self, name: str) -> None:
        """Wait until none of any process stands on layers of that image.

        Raises:
            StartFailed: One still does after two seconds.
        """
        self._machines.await_unused(name)

    def reap(self) -> tuple[str, ...]:
        """Remove what dead owners left; returns the names."""
        return self._machines.reap()

    def close(self) -> None:
        """Close those that are still held."""
        self._machines.close()


def judges(engine: Engine, inspect: Inspect) -> Judges | None:
    """Return the room for judges beside `engine`, None where there can be none."""
    if not (engine.is_plain and nursery.is_possible()) or cgroup.missing():
        return None
    layers = Path(engine.about.get("DockerRootDir") or "/nowhere") / _DRIVER / "l"
    if engine.about.get("Driver") != _DRIVER or not layers.is_dir():
        return None
    made = Judges(engine.name, layers, inspect)
    return made if made.can_write() else None


class _NoLayers(Exception):
    """An image whose layers are not where the Engine says."""


class _Layers(rootfs.Store):
    """The layers of an Engine's images, in the words of the embedded runtime's store; nothing is written here."""

    def __init__(self, layers: Path, inspect: Inspect):
        super().__init__(layers.parent)
        self.layers, self._inspect = layers, inspect

    def image(self, name: str) -> rootfs.Stored:
        """Return the image of that name.

        Raises:
            ImageMissing: The Engine has none.
        """
        found = self._inspect(name)
        image = images.described(name, found)
        return rootfs.Stored(
            name, self.links(found), env=dict(image.env), workdir=image.workdir, user=image.user
        )

    def links(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the layers, top first, of an image or a container that the Engine told of."""
        data = (found.get("GraphDriver") or {}).get("Data") or {}
        folders = [data.get("UpperDir") or "", *(data.get("LowerDir") or "").split(":")]
        try:
            links = tuple(Path(folder).with_name("link").read_text("ascii") for folder in folders if folder)
        except OSError as error:
            raise _NoLayers(str(error)) from error
        if not links or not all((self.layers / link).is_dir() for link in links):
            raise _NoLayers(f"{found.get('Id')}: {folders}")
        return links

    def own_layers_of(self, name: str) -> set[Path]:
        """Return what the Engine would remove with the name: its last layer, if it has no other name."""
        found = self._inspect(name)
        if len(found.get("RepoTags") or ()) > 1:
            return set()
        with contextlib.suppress(_NoLayers):
            return {self.layers / self.links(found)[0]}
        return set()
