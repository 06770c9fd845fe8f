"""A rollout on a real Ray cluster of two nodes, one of which dies while it plays."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.two_nodes import RayCluster

from terminal_gym.errors import RuntimeUnavailable
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.trajectory.store import Run

HERE = Path(__file__).parents[1]
HELLO = HERE / "kit/tasks/hello"
TGYM = Path(sys.executable).with_name("tgym")


@pytest.fixture(scope="module")
def needs_namespace() -> None:
    runtime = open_runtime("namespace")
    try:
        runtime.check()
    except RuntimeUnavailable as error:
        pytest.skip(f"namespace: {error}")
    finally:
        runtime.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RayCluster]:
    cluster = RayCluster(tmp_path / "ray.log")
    yield cluster
    cluster.close()


def test_two_nodes_play_and_one_of_them_dies(
    needs_namespace: None, cluster: RayCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = ["--attempts", "40", "--concurrency", "4", "--seed", "1", "--runtime", "namespace"]
    where = ["--cluster", cluster.address, "--out", folder, "--json"]
    command = subprocess.Popen(
        [TGYM, "rollout", HELLO, *words, *where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 120.0
    while not (folder / "index.jsonl").exists() or len({one.versions["place"] for one in Run(folder)}) < 2:
        assert time.monotonic() < until, "not every node plays"
        assert command.poll() is None, command.communicate()[1]
        time.sleep(0.05)
    cluster.kill()
    out, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    told, run = json.loads(out), Run(folder)
    assert (told["planned"], told["passed"], told["broken"]) == (40, 40, 0)
    assert sorted(run.standing) == [("TerminalTraj/hello", k) for k in range(40)]
    assert len(run.rows) == 40, "an attempt was played twice"
    assert "is taken out" in err
    played = list(run)
    assert {one.runtime for one in played} == {"namespace"}
    assert any("is gone" in failure for one in played for failure in one.failures)
    assert all(one.frames and one.seed is not None for one in played)


def test_no_cluster_is_said_before_anything_is_made(tmp_path: Path) -> None:
    words = ["rollout", HELLO, "--cluster", "127.0.0.1:1", "--out", tmp_path / "run"]
    done = subprocess.run([TGYM, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 3
    assert "No Ray cluster at '127.0.0.1:1'" in done.stderr
