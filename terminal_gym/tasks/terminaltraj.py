"""Reads the released TerminalTraj instances: Terminal-Bench 1.0 folders with their own metadata and no solution.

    5k_instances.tar.gz → 5k_instances/task_<N>/{task.yaml, Dockerfile, docker-compose.yaml, run-tests.sh,
                                                item_info.json, tests/test_outputs.py}

`category`, `difficulty` and `tags` are the same in every released instance (mathematics, easy) and say nothing about
the task: they are left out of the labels, and the task says so in its label `ignored`. Never run here: the released
tarball and its images, which no registry within reach gives.

Source: m-a-p/TerminalTraj-5k-instances, revision cfc9f437.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks import terminal_bench
from terminal_gym.tasks.task import Task

CONSTANTS = {"category": "mathematics", "difficulty": "easy", "tags": ["mathematics"]}
_DONE = ".unpacked"


def is_task_folder(folder: Path) -> bool:
    """Whether `folder` holds a released instance, by its content."""
    return (folder / "task.yaml").is_file() and (folder / "item_info.json").is_file()


def read_task(folder: Path, *, namespace: str = "TerminalTraj") -> Task:
    """Return the task in `folder`; raises as `terminal_bench.read_task` does."""
    task = terminal_bench.read_task(folder, namespace=namespace)
    labels = dict(task.metadata)
    if all(labels.get(key) == value for key, value in CONSTANTS.items()):
        for key in CONSTANTS:
            del labels[key]
        labels["ignored"] = f"{', '.join(CONSTANTS)}: constants of the release"
    return replace(task, format="terminaltraj", metadata=MappingProxyType(labels))


def unpacked(tarball: Path) -> Path:
    """Return the folder of task folders in a tarball, unpacked once into the cache folder, by its content.

    Raises:
        BadTaskFormat: It is no tarball, is damaged or cut short, or holds no task folder.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "terminal-gym" / "unpacked"
    target = cache / _content(tarball)[:24]
    if not (target / _DONE).is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (target / _DONE).is_file():
                _unpack(tarball, target)
    found = (target / _DONE).read_text("utf-8")
    return target / found


def _content(tarball: Path) -> str:
    with tarball.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(tarball: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
    try:
        with tarfile.open(tarball) as tar:
            tar.extractall(draft, filter="data")
        (draft / _DONE).write_text(_set_folder(tarball, draft), "utf-8")
        draft.rename(target)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, BadTaskFormat):
            raise
        advice = "Fetch it again, and compare its size and hash with what the release says."
        raise BadTaskFormat(tarball, f"cannot be unpacked: {error}", advice) from error


def _set_folder(tarball: Path, root: Path) -> str:
    """Path, relative to `root`, of the folder whose children are tasks."""
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        if any(
            (child / "task.yaml").is_file() or (child / "task.toml").is_file() for child in folder.iterdir()
        ):
            return folder.relative_to(root).as_posix()
    raise BadTaskFormat(
        tarball, "holds no folder of task folders", "Name a tarball such as 5k_instances.tar.gz."
    )
