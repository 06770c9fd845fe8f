"""Builds and proofs on a real Ray cluster of two nodes, one of which dies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kit.repositories import repository
from kit.two_nodes import RayCluster
from kit.waiting import wait_until
from typer.testing import CliRunner

from env_registry.pipeline.cli import app
from env_registry.pipeline.run import run
from env_registry.pipeline.settings import Generate, Settings
from env_registry.pipeline.stage import Table
from terminal_gym.errors import RuntimeUnavailable, StartFailed
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import read_folder

pytestmark = pytest.mark.docker
pytest.importorskip("ray")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RayCluster]:
    cluster = RayCluster(tmp_path / "ray.log")
    yield cluster
    cluster.close()


def test_two_nodes_build_and_one_alone_proves(
    settings: Settings, cluster: RayCluster, docker_runtime: Runtime, tmp_path: Path
) -> None:
    names = ("one", "two", "three", "four")
    for name in names:
        repository(tmp_path, name, word=name, makefile="all:\n\tcat src/*.c > all.c\n\tsleep 2\n")
    repository(tmp_path, "bad", word="bad", makefile="all:\n\texit 3\n")
    wanted = replace(
        settings,
        sources=tuple(f"path:{name}" for name in (*names, "bad")),
        generate=Generate(per_repository=1),
    )
    run(wanted, ["collect", "score"])
    [told] = run(wanted, ["build"], cluster=cluster.address)
    assert (told.kept, dict(told.rejected), told.broken) == (4, {"build-failed": 1}, 0)
    rows = Table(settings.work, "build").rows.values()
    assert len({row.cells["node"] for row in rows}) == 2
    run(wanted, ["generate"])
    said: list[str] = []

    def kill_after_one(stage: str, row: object) -> None:
        if not said:
            said.append("killed")
            cluster.kill()

    [told] = run(wanted, ["accept"], cluster=cluster.address, progress=kill_after_one, told=said.append)
    assert (told.kept, told.broken) == (4, 0)
    assert len(Table(settings.work, "accept").kept) == 4
    assert "its items are done elsewhere" in said[-1]
    images = [read_folder(path.parent).image.name for path in settings.work.glob("tasks/*/task.yaml")]
    images += [str(row.cells["image"]) for row in Table(settings.work, "build").kept]

    def are_free() -> bool:
        """What stood in sandboxes of the dead node, once their owner is seen to be dead."""
        docker_runtime.reap()
        try:
            for image in images:
                docker_runtime.remove_image(image)
        except StartFailed:
            return False
        return True

    assert wait_until(are_free, deadline_s=60)


def test_no_cluster_is_said_before_anything_is_built(settings: Settings, tmp_path: Path) -> None:
    repository(tmp_path)
    run(settings, ["collect", "score"])
    with pytest.raises(RuntimeUnavailable, match=r"No Ray cluster at '127.0.0.1:1'"):
        run(settings, ["build"], cluster="127.0.0.1:1")
    assert not Table(settings.work, "build").rows
    config = tmp_path / "c.yaml"
    config.write_text("work: work\nsources: [path:proj]\n")
    ran = CliRunner().invoke(app, ["build", "--config", str(config), "--cluster", "127.0.0.1:1"])
    assert ran.exit_code
