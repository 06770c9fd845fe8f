"""Base images where no registry answers: the distribution is bootstrapped from its package archive.

What stands in is not byte for byte the upstream image, so it is always named: the image carries a label, every
image built on it inherits the label, and a score made on it says so.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from terminal_gym.errors import BadSetting, BuildFailed

_DEBIAN = {"12": "bookworm", "13": "trixie", "latest": "trixie", "stable": "trixie"}
_PYTHON = {"3.11": "bookworm", "3.13": "trixie", "3": "trixie", "latest": "trixie"}
_PYTHON_PACKAGES = ("python3", "python3-venv", "python3-pip", "python-is-python3")
# Upstream's Python is nobody's but the task's; Debian's would refuse `pip install`.
_PIP = ("PIP_BREAK_SYSTEM_PACKAGES=1", "PIP_ROOT_USER_ACTION=ignore")
_NAME = re.compile(r"^(?:docker\.io/)?(?:library/)?(?P<name>debian|python)(?::(?P<tag>[\w.-]+))?$")
# Terminal-Bench's own bases: a distribution with tmux and asciinema, which nothing here needs, and /app.
_BENCH = re.compile(r"(?:.*/)?laude-institute/t-bench/(?P<kind>python-3-13|ubuntu-24-04)(?::\S+)?$")
_UBUNTU = re.compile(r"^(?:docker\.io/)?(?:library/)?ubuntu(?::(?P<tag>24\.04|noble|latest))?$")
_LIMIT_S = 900
MAPPING = "TGYM_BASE_IMAGES"  # names a file of `upstream name: image of this machine` lines, in YAML


@dataclass(frozen=True)
class Recipe:
    """How to make a root filesystem from a package archive."""

    suite: str  # Debian release
    packages: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  # NAME=value, for the image
    workdir: str = ""
    stands_for: str = ""  # the upstream image, where it is another distribution

    @property
    def describes(self) -> str:
        """What an image made so is called in records."""
        extra = f" with {', '.join(self.packages)}" if self.packages else ""
        place = f", in place of {self.stands_for}" if self.stands_for else ""
        return f"Debian {self.suite} minbase by mmdebstrap{extra}{place}"


def recipe_for(name: str) -> Recipe | None:
    """Return how to stand in for a base image of that name, None where nothing can."""
    if bench := _BENCH.match(name):
        python = bench["kind"].startswith("python")
        packages = ("ca-certificates", *(_PYTHON_PACKAGES if python else ()))
        return Recipe("trixie", packages, _PIP if python else (), workdir="/app", stands_for=name)
    if _UBUNTU.match(name):
        return Recipe("trixie", ("ca-certificates",), stands_for=name)
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
    return Recipe(_PYTHON[minor], (*_PYTHON_PACKAGES, "ca-certificates"), _PIP)


def mapped(name: str) -> str | None:
    """Return the image that the mapping file names in place of `name`, None where it names none.

    A name in the file is matched as it stands, and against what follows the registry's host.

    Raises:
        BadSetting: The file cannot be read, or is no mapping of names to names.
    """
    place = os.environ.get(MAPPING, "")
    if not place:
        return None
    rows = _mapping(place)
    head, _, rest = name.partition("/")
    short = rest if rest and ("." in head or ":" in head or head == "localhost") else name
    return next((rows[key] for key in (name, short) if key in rows and rows[key] != name), None)


@functools.lru_cache(maxsize=4)
def _mapping(place: str) -> dict[str, str]:
    try:
        rows = yaml.safe_load(Path(place).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadSetting(f"{MAPPING} names {place}, which cannot be read: {error}") from error
    if not isinstance(rows, dict) or not all(isinstance(cell, str) for row in rows.items() for cell in row):
        raise BadSetting(f"{place} is no mapping. Write lines such as `ubuntu:24.04: my-ubuntu:1`.")
    return rows


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
