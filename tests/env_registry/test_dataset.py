"""A catalogue travels as a data set: loaded by `datasets`, whole again after a pull, and nothing of it trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from kit.folders import task_folder
from typer.testing import CliRunner

import env_registry.builtin
from env_registry import dataset
from env_registry.cli import app
from env_registry.store import select
from terminal_gym.errors import BadSetting, BadTaskFormat
from terminal_gym.tasks.catalogue import Catalogue
from terminal_gym.tasks.manifest import read_manifest


def catalogue(root: Path, splits: dict[str, str]) -> Path:
    """A catalogue of tasks: name → split."""
    rows = []
    for name, split in splits.items():
        folder = task_folder(
            root / "tasks", name=name, files__data_dot_bin=bytes(range(256)), solution_dot_sh="true\n"
        )
        (folder / "files" / "run").write_text("#!/bin/sh\n")
        (folder / "files" / "run").chmod(0o755)
        rows.append({"id": name, "path": f"tasks/{name}", "split": split, "language": "c", "score": 0.5})
    (root / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "images.jsonl").write_text('{"repository": "r"}\n')
    return root


@pytest.fixture
def pushed(tmp_path: Path) -> Path:
    source = catalogue(tmp_path / "source", {"a": "train", "b": "test", "c": "train", "d": "none of them"})
    dataset.push(source, tmp_path / "pushed")
    return tmp_path / "pushed"


def test_datasets_loads_it(pushed: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(pushed), cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 3, "test": 1}
    first = loaded["train"][0]
    assert (first["id"], first["language"], json.loads(first["labels"])["score"]) == ("a", "c", 0.5)
    files = {one["path"]: one["content"] for one in first["files"]}
    assert files["files/data.bin"] == bytes(range(256))
    assert b"def test" in files["tests/test_outputs.py"]


def test_pulled_it_is_the_same_catalogue(pushed: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["pull", str(pushed), "--out", str(tmp_path / "pulled")])
    assert ran.exit_code == 0, ran.output
    before, after = Catalogue(tmp_path / "source"), Catalogue(tmp_path / "pulled")
    assert sorted(before.rows) == sorted(after.rows)
    for id in before.rows:
        assert before.task(id).content_hash() == after.task(id).content_hash()
        assert {**after.rows[id].labels} == {**before.rows[id].labels}
    assert (tmp_path / "pulled" / "tasks" / "a" / "files" / "run").stat().st_mode & 0o111
    assert [path for _, path in select(tmp_path / "pulled", {"split": "test"})] == ["tasks/b"]
    assert len(list(read_manifest(tmp_path / "pulled" / "manifest.jsonl").tasks())) == 4
    assert (tmp_path / "pulled" / "images.jsonl").is_file()


def test_the_tasks_that_ship_travel_whole(tmp_path: Path) -> None:
    source = env_registry.builtin.catalogue
    ran = CliRunner().invoke(app, ["push", str(source), "--out", str(tmp_path / "pushed")])
    assert ran.exit_code == 0, ran.output
    count = dataset.pull(tmp_path / "pushed", tmp_path / "pulled")
    assert count == len(Catalogue(source).rows) == 16


def test_files_of_a_split_have_a_bounded_number_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = catalogue(tmp_path / "source", {f"t{n}": "train" for n in range(7)})
    dataset.push(source, tmp_path / "pushed", rows=4)
    files = sorted(path.name for path in (tmp_path / "pushed" / "data").iterdir())
    assert files == ["train-00000.parquet", "train-00001.parquet"]
    assert dataset.pull(tmp_path / "pushed", tmp_path / "pulled") == 7


def changed(pushed: Path, change: dict[str, Any]) -> None:
    path = pushed / "data" / "train-00000.parquet"
    table = pyarrow.parquet.read_table(path)
    rows = table.to_pylist()
    rows[0] |= change
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=table.schema), path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "../elsewhere"}, "leads out"),
        ({"path": "/tmp/elsewhere"}, "leads out"),
        ({"path": "tasks/c"}, "there twice"),
        ({"files": [{"path": "../../../planted", "mode": 0o644, "content": b"x"}]}, "leads out"),
        ({"hash": "0" * 64}, "not what its hash says"),
        ({"labels": "{"}, "no task"),
        ({"files": None}, "no task"),
    ],
)
def test_what_is_pulled_is_not_trusted(
    pushed: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    changed(pushed, change)
    with pytest.raises(BadTaskFormat, match=says):
        dataset.pull(pushed, tmp_path / "pulled")
    assert not list(tmp_path.glob("planted"))
    assert not (tmp_path / "elsewhere").exists()


def test_refusals(pushed: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="not empty"):
        dataset.push(tmp_path / "source", pushed)
    with pytest.raises(BadSetting, match="not empty"):
        dataset.pull(pushed, pushed)
    with pytest.raises(BadSetting, match=r"holds no data/\*\.parquet"):
        dataset.pull(tmp_path / "source", tmp_path / "new")
    (pushed / "data" / "test-00000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BadTaskFormat, match="no Parquet"):
        dataset.pull(pushed, tmp_path / "new")
