"""Indexes of any size: written in bounded memory, asked row by row, filtered and counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.folders import task_folder
from typer.testing import CliRunner

from env_registry.cli import app
from env_registry.splits import split_of
from env_registry.store import select, table_one, write_big_index
from terminal_gym.errors import BadSetting, BadTaskFormat, UnknownName
from terminal_gym.registration import EAGER_ROWS, register
from terminal_gym.tasks.big_index import BigIndex
from terminal_gym.tasks.catalogue import Catalogue
from terminal_gym.tasks.manifest import read_manifest

LANGUAGES = ("c", "go", "python")


def rows(count: int, path: str = "demo") -> Iterator[dict[str, Any]]:
    for n in range(count):
        repository = f"r{n // 4}"
        yield {
            "id": f"task_{n}", "path": path, "language": LANGUAGES[n // 4 % 3], "repository": repository,
            "split": split_of(repository), "image": f"i{n // 4}", "difficulty": "easy",
        }  # fmt: skip


def test_a_large_catalogue_is_read_like_a_small_one(tmp_path: Path) -> None:
    task_folder(tmp_path)
    assert write_big_index(tmp_path, rows(40)) == 40
    catalogue = Catalogue(tmp_path)
    assert len(catalogue.rows) == len(list(catalogue.rows)) == 40
    assert "TerminalTraj/task_7" in catalogue.rows
    assert catalogue.rows["TerminalTraj/task_7"].labels["language"] == "go"
    assert catalogue.task("TerminalTraj/task_7").ref.name == "task_7"
    with pytest.raises(UnknownName, match="task_39"):
        catalogue.task("TerminalTraj/task_390")


def test_filters_and_counts(tmp_path: Path) -> None:
    task_folder(tmp_path)
    write_big_index(tmp_path, rows(48))
    assert len(list(select(tmp_path, {"language": "go"}))) == 16
    assert {
        row["language"]: (row["repositories"], row["images"], row["instances"]) for row in table_one(tmp_path)
    } == dict.fromkeys(LANGUAGES, (4, 4, 16))
    assert sum(row["train"] + row["val"] + row["test"] for row in table_one(tmp_path)) == 48
    ran = CliRunner().invoke(
        app, ["select", str(tmp_path), "--where", "language=c", "--out", str(tmp_path / "m.jsonl")]
    )
    assert ran.exit_code == 0, ran.output
    assert len(read_manifest(tmp_path / "m.jsonl").tasks()) == 16
    told = CliRunner().invoke(app, ["stats", str(tmp_path), "--json"])
    assert json.loads(told.output)["languages"] == table_one(tmp_path)
    with pytest.raises(UnknownName, match="language"):
        list(select(tmp_path, {"langauge": "c"}))


def test_an_index_of_lines_becomes_a_large_one(tmp_path: Path) -> None:
    (tmp_path / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(12)))
    ran = CliRunner().invoke(app, ["index", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    assert len(Catalogue(tmp_path).rows) == 12


@pytest.mark.parametrize(
    "bad",
    [{"id": "a b", "path": "x"}, {"id": "a"}, {"id": "a", "path": "../x"}, {"id": "task_1", "path": "x"}],
)
def test_a_bad_row_leaves_the_old_index(tmp_path: Path, bad: dict[str, str]) -> None:
    write_big_index(tmp_path, rows(3))
    with pytest.raises(BadTaskFormat):
        write_big_index(tmp_path, [*rows(2), bad])
    assert len(Catalogue(tmp_path).rows) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["index.sqlite"]


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 4096)
    with pytest.raises(BadTaskFormat, match=r"index\.sqlite"):
        len(Catalogue(tmp_path).rows)


def test_memory_and_registration_do_not_grow_with_it(tmp_path: Path) -> None:
    write_big_index(tmp_path, rows(EAGER_ROWS + 1))
    tracemalloc.start()
    index = BigIndex(tmp_path / "index.sqlite")
    assert index["TerminalTraj/task_49999"][0] == "demo"
    assert sum(1 for _ in index) == EAGER_ROWS + 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20
    with pytest.raises(BadSetting, match="Register the folder of one"):
        register(tmp_path)


OPEN = """
import gymnasium, json, resource, statistics, sys, time
import terminal_gym
from terminal_gym.tasks.catalogue import Catalogue, installed
def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def timed(act):
    began = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - began)
def make(n):
    [id] = terminal_gym.register(f"task_{n}")
    gymnasium.make(id).close()
first = timed(lambda: len(Catalogue(installed()[1].folder).rows))
make(1)
after = [timed(lambda: make(n)) for n in range(5, 1_030_695, 50_000)]
told = {"open_ms": first, "make_ms": statistics.median(after), "worst_ms": max(after), "mib": memory()}
print(json.dumps(told))
"""


@pytest.mark.whole
@pytest.mark.timeout(900)
def test_the_whole_paper_in_one_catalogue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1,030,695 instances of 32,325 images: opened, and any id made, within 100 ms, in bounded memory."""
    package = tmp_path / "third"
    task_folder(package)
    (package / "__init__.py").write_text("from pathlib import Path\nfolder = Path(__file__).parent\n")
    (tmp_path / "third-1.dist-info").mkdir()
    (tmp_path / "third-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: third\nVersion: 1\n")
    points = "[terminal_gym.catalogues]\nthird = third:folder\n"
    (tmp_path / "third-1.dist-info/entry_points.txt").write_text(points)

    def paper() -> Iterator[dict[str, Any]]:
        for n, row in enumerate(rows(1_030_695)):
            yield row | {"image": f"i{n % 32_325}", "repository": f"r{n % 32_325}"}

    began = time.perf_counter()
    assert write_big_index(package, paper()) == 1_030_695
    written = time.perf_counter() - began
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", OPEN], capture_output=True, text=True, env=env, timeout=300)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    began = time.perf_counter()
    counted = table_one(package)
    size = (package / "index.sqlite").stat().st_size >> 20
    with capsys.disabled():
        print(
            f"\nwritten in {written:.1f} s, {size} MiB; counted in {time.perf_counter() - began:.1f} s; {told}"
        )
    assert sum(row["instances"] for row in counted) == 1_030_695
    assert told["open_ms"] < 100
    assert told["make_ms"] < 100
    assert told["mib"] < 150  # of the whole process, gymnasium and numpy included
