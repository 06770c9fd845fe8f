"""The released instances: a tarball is unpacked once, damage is told, and its tasks get ids."""

import shutil
import tarfile
from pathlib import Path

import gymnasium
import pytest

import terminal_gym
from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.catalogue import open_catalogue
from terminal_gym.tasks.terminaltraj import unpacked

KIT = Path(__file__).parents[2] / "kit" / "tasks"


@pytest.fixture
def tarball(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = tmp_path / "5k_instances.tar.gz"
    with tarfile.open(made, "w:gz") as tar:
        for number in (17, 18):
            tar.add(KIT / "task_17", f"5k_instances/task_{number}")
    return made


def test_a_tarball_is_a_catalogue_and_is_unpacked_once(tarball: Path) -> None:
    catalogue = open_catalogue(tarball)
    assert list(catalogue.rows) == ["TerminalTraj/task_17", "TerminalTraj/task_18"]
    task = catalogue.task("TerminalTraj/task_18")
    assert (task.format, task.image.name.partition(":")[2]) == ("terminaltraj", "tmux_asciinema_v2")
    marker = catalogue.folder / "marker"
    marker.touch()
    assert (unpacked(tarball) / "marker").exists()


def test_its_tasks_are_gymnasium_ids(tarball: Path) -> None:
    ids = terminal_gym.register(str(tarball), namespace="Traj5k")
    try:
        assert ids == ["Traj5k/task_17", "Traj5k/task_18"]
        assert gymnasium.spec(ids[0]).kwargs["task"].endswith("task_17")
    finally:
        for id in ids:
            del gymnasium.registry[id]


def test_a_damaged_tarball_leaves_nothing(tarball: Path, tmp_path: Path) -> None:
    tarball.write_bytes(tarball.read_bytes()[:-200])
    with pytest.raises(BadTaskFormat, match="cannot be unpacked"):
        unpacked(tarball)
    assert [path.name for path in (tmp_path / "cache/terminal-gym/unpacked").iterdir()] == [".lock"]


def test_a_tarball_of_something_else_is_refused(tarball: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as tar:
        tar.add(KIT / "task_17/tests", "tests")
    with pytest.raises(BadTaskFormat, match="no folder of task folders"):
        unpacked(other)
    evil = tmp_path / "evil.tar"
    shutil.copytree(KIT / "task_17", tmp_path / "task_1")
    with tarfile.open(evil, "w") as tar:
        tar.add(tmp_path / "task_1", "../out/task_1")
    with pytest.raises(BadTaskFormat, match="cannot be unpacked"):
        unpacked(evil)
