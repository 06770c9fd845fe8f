"""Where a contender runs: a virtual environment named by its pins, or the image of the official harnesses.

Both are made once, in the cache folder. A peer that cannot be had here is an `Absent` with its reason, not an error.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.parity import harness
from terminal_gym.errors import TerminalGymError
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.trusted_runtime.tree import cache_folder

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[3]
MACHINE = HERE / "machine"
_IN_IMAGE = ("swe-rex", "openenv")  # the peers whose server runs inside the sandbox
_INSTALL_S = 900.0
LABEL = "tgym.peers"  # of a harness container that serves; its value is the suite's process


class Absent(Exception):
    """A peer that cannot be installed or started here; the message is what the table says of it."""


@dataclass(frozen=True)
class Pin:
    """One peer, as pins.toml has it."""

    name: str
    module: str
    where: str
    requires: tuple[str, ...]


def pins() -> dict[str, Pin]:
    """Return every peer by name."""
    read = tomllib.loads((HERE / "pins.toml").read_text("utf-8"))
    return {
        name: Pin(name, told["module"], told["where"], tuple(told["requires"])) for name, told in read.items()
    }


@contextlib.contextmanager
def lent_folder() -> Iterator[Path]:
    """Lend a folder that the harness container, this machine and its Engine all see at the same place."""
    root = _cache()
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def command(pin: Pin, image: str, folder: Path) -> list[str]:
    """Return the command that serves a peer on its standard streams, everything it needs made.

    Raises:
        Absent: It cannot be installed here.
    """
    try:
        if pin.where == "venv":
            return [str(_venv(pin) / "bin" / "python"), "-m", _module(pin), image]
        return _in_harness(pin, image, folder)
    except (subprocess.SubprocessError, TerminalGymError, OSError) as error:
        raise Absent(_reason(error)) from error


def own_command(module: str, *args: str) -> list[str]:
    """Return the command that serves a contender of ours by the interpreter that runs here."""
    return [sys.executable, "-m", f"benchmarks.speed.peers.{module}", *args]


def machine() -> str:
    """Return the name of the image that every peer starts; it is made where the Engine does not hold it.

    Raises:
        Absent: What goes into it cannot be had here.
    """
    wanted = [pins()[name] for name in _IN_IMAGE]
    parts = [(MACHINE / name).read_bytes() for name in ("Dockerfile", "openenv_server.py")]
    name = (
        f"tgym-peers/machine:{_digest(*parts, *(line.encode() for pin in wanted for line in pin.requires))}"
    )
    there = subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False)
    if there.returncode == 0:
        return name
    try:
        _harness_image()  # and with it the base
        with (
            tempfile.TemporaryDirectory(prefix="tgym-peers-") as made,
            contextlib.closing(open_runtime("docker")) as runtime,
        ):
            context = Path(made)
            for part in ("Dockerfile", "openenv_server.py"):
                shutil.copy(MACHINE / part, context)
            for pin in wanted:
                _target(pin.requires, context / "servers" / pin.name, python="3.11")
            runtime.build(ImageRecipe(name, context))
    except (subprocess.SubprocessError, TerminalGymError, OSError) as error:
        raise Absent(_reason(error)) from error
    return name


def _module(pin: Pin) -> str:
    return f"benchmarks.speed.peers.{pin.module}"


def _venv(pin: Pin) -> Path:
    """Return the peer's virtual environment; a half-made one never gets its name."""
    place = (
        _cache() / f"{pin.name}-{_digest(*(line.encode() for line in pin.requires), sys.version.encode())}"
    )
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}-{uuid.uuid4().hex[:8]}")
        _uv("venv", "--quiet", "--python", sys.executable, "--relocatable", str(draft))
        _uv("pip", "install", "--quiet", "--python", str(draft / "bin" / "python"), *pin.requires)
        draft.rename(place)
    return place


def _target(requires: Sequence[str], place: Path, *, python: str) -> None:
    """Install wheels for another interpreter than ours into a folder."""
    wanted = [
        "--target",
        str(place),
        "--python-version",
        python,
        "--python-platform",
        "x86_64-manylinux_2_28",
    ]
    _uv("pip", "install", "--quiet", "--only-binary", ":all:", "--python", sys.executable, *wanted, *requires)


@functools.cache
def _harness_image() -> str:
    return harness.image()


def _in_harness(pin: Pin, image: str, folder: Path) -> list[str]:
    held = _cache() / f"{pin.name}-{_digest(*(line.encode() for line in pin.requires), b'3.13')}"
    if pin.requires and not held.exists():
        draft = held.with_name(f".{held.name}-{uuid.uuid4().hex[:8]}")
        _target(pin.requires, draft, python="3.13")
        draft.rename(held)
    argv = ["docker", "run", "--rm", "--interactive", "--init", "--network", "host", "--workdir", str(ROOT)]
    argv += ["--label", f"{LABEL}={os.getpid()}"]
    for place in (f"{harness.SOCKET}:{harness.SOCKET}", f"{ROOT}:{ROOT}:ro", f"{folder}:{folder}"):
        argv += ["--volume", place]
    argv += ["--volume", f"{held}:{held}:ro"] if pin.requires else []
    settings = {"PYTHONPATH": f"{ROOT}:{held}" if pin.requires else str(ROOT), "HOME": str(folder)}
    settings |= {"TMPDIR": str(folder), "HARBOR_TELEMETRY": "off", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    argv += [word for key, value in settings.items() for word in ("--env", f"{key}={value}")]
    # Inspect's own wheels would meet older ones of the harnesses: it runs by the interpreter beneath them.
    python = "/usr/bin/python3" if pin.requires else "python3"
    return [*argv, _harness_image(), python, "-m", _module(pin), image, str(folder)]


def _uv(*words: str) -> None:
    subprocess.run(
        ["uv", *words], check=True, capture_output=True, text=True, timeout=_INSTALL_S, env=_quiet()
    )


def _quiet() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}


def _cache() -> Path:
    return cache_folder().parent / "peers"


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _reason(error: BaseException) -> str:
    said = getattr(error, "stderr", "") or str(error)
    return f"cannot be installed here: {str(said).strip()[-300:]}"
