"""A pipeline on a real Engine, over an image that has `make` and nothing from anywhere."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit.repositories import make_image

from env_registry.pipeline.run import run
from env_registry.pipeline.settings import Accept, Build, Settings
from env_registry.pipeline.stage import Row, Table
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import read_folder


@pytest.fixture
def one_worker_at_a_time() -> Iterator[None]:
    """The tests build the same repository, and so the same image, which each removes in the end."""
    with (Path(tempfile.gettempdir()) / "tgym-test-pipeline-images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def base(docker_runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> str:
    recipe = make_image(tmp_path_factory.mktemp("make") / "image")
    docker_runtime.build(recipe)
    return recipe.name


@pytest.fixture
def settings(
    tmp_path: Path, base: str, docker_runtime: Runtime, one_worker_at_a_time: None
) -> Iterator[Settings]:
    build = Build(
        runtime="docker",
        bases={"make": base},
        timeout_s=20,
        memory_mb=256,
        pids=64,
        disk_mb=64,
        network=False,
    )
    yield Settings(
        tmp_path,
        tmp_path / "work",
        ("path:proj",),
        build=build,
        accept=Accept(repeats=1, failing_repeats=1, attacks=("nothing",)),
    )
    for row in Table(tmp_path / "work", "build").kept:
        for task in (tmp_path / "work" / "tasks").glob("*/task.yaml"):
            docker_runtime.remove_image(read_folder(task.parent).image.name)
        docker_runtime.remove_image(str(row.cells["image"]))


@pytest.fixture
def built() -> Callable[[Settings], Row]:
    """Runs the stages up to the build; returns the row of path:proj."""

    def up_to_build(settings: Settings) -> Row:
        for _ in range(3):  # what a busy machine broke has no row, and comes again
            run(settings, ["collect", "score", "build"])
            if row := Table(settings.work, "build").rows.get("path:proj"):
                return row
        raise AssertionError("the machine breaks this build each time")

    return up_to_build
