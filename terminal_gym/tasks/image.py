"""How an image is named and made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ImageRecipe:
    """How the task's root filesystem is named and made.

    A Dockerfile stage named `base` installs packages. On the `host` root filesystem that stage is replaced
    by the machine's own root, if every command in `host_commands` exists there.
    """

    name: str  # image name, e.g. "tgym/count-words:3f2a…"; pulled or built under this name
    context: Path | None = None  # build context folder; None: the image is pulled, never built
    dockerfile: str = "Dockerfile"  # relative to `context`
    host_commands: tuple[str, ...] = ()  # commands that the host must have to stand in for stage `base`
    host_allowed: bool = False  # whether the machine's own root may stand in at all
    exclude: tuple[str, ...] = ()  # shell patterns; names directly in `context` that never enter the build
    prebuilt: bool = (
        False  # `name` is pulled where a registry gives it, and built from `context` where none does
    )
    digest: str = ""  # what the image's digest must be; "": any
