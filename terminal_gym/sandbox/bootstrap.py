"""Base images where no registry answers: the distribution is bootstrapped from its package archive.

What stands in is not byte for byte the upstream image, so it is always named: the image carries a label, every
image built on it inherits the label, and a score made on it says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from terminal_gym.errors import BuildFailed

_DEBIAN = {"12": "bookworm", "13": "trixie", "latest": "trixie", "stable": "trixie"}
_PYTHON = {"3.11": "bookworm", "3.13": "trixie", "3": "trixie", "latest": "trixie"}
_NAME = re.compile(r"^(?:docker\.io/)?(?:library/)?(?P<name>debian|python)(?::(?P<tag>[\w.-]+))?$")
_LIMIT_S = 900


@dataclass(frozen=True)
class Recipe:
    """How to make a root filesystem from a package archive."""

    suite: str  # Debian release
    packages: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  # NAME=value, for the image

    @property
    def describes(self) -> str:
        """What an image made so is called in records."""
        extra = f" with {', '.join(self.packages)}" if self.packages else ""
        return f"Debian {self.suite} minbase by mmdebstrap{extra}"


def recipe_for(name: str) -> Recipe | None:
    """Return how to stand in for a base image of that name, None where nothing can."""
    found = _NAME.match(name)
    if found is None:
        return None
    tag = (found["tag"] or "latest").removesuffix("-slim")
    if found["name"] == "debian":
        suite = re.sub(r"-\d{8}$", "", tag)  # dated snapshots of a release
        suite = _DEBIAN.get(suite.split(".")[0], suite)
        return Recipe(suite) if suite in _DEBIAN.values() else None
    version, _, suite = tag.replace("-slim", "").partition("-")
    minor = ".".join(version.split(".")[:2])
    if minor not in _PYTHON or suite not in ("", _PYTHON[minor]):
        return None
    packages = ("python3", "python3-venv", "python3-pip", "python-is-python3", "ca-certificates")
    # Upstream's Python is nobody's but the task's; Debian's would refuse `pip install`.
    return Recipe(_PYTHON[minor], packages, ("PIP_BREAK_SYSTEM_PACKAGES=1", "PIP_ROOT_USER_ACTION=ignore"))


@contextmanager
def made(recipe: Recipe, *, log: Callable[[str], None]) -> Iterator[Path]:
    """Make the root filesystem; yields a tar of it, which is removed afterwards. Needs root and mmdebstrap.

    Raises:
        BuildFailed: This machine cannot bootstrap, or the archive does not answer.
    """
    tool = shutil.which("mmdebstrap")
    if tool is None or os.geteuid() != 0:
        missing = (
            "mmdebstrap is not installed (`apt-get install mmdebstrap`)" if tool is None else "it needs root"
        )
        raise BuildFailed(f"{recipe.describes} cannot be made here: {missing}.")
    with tempfile.TemporaryDirectory(prefix="tgym-bootstrap-") as folder:
        archive = Path(folder) / "rootfs.tar"
        include = [f"--include={','.join(recipe.packages)}"] if recipe.packages else []
        log(f"bootstrapping {recipe.describes}")
        ran = subprocess.run(
            [tool, "--quiet", "--variant=minbase", *include, recipe.suite, str(archive)],
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        if ran.returncode != 0:
            raise BuildFailed(f"{recipe.describes} cannot be made here", log_tail=ran.stderr[-4000:])
        yield archive
