"""The index of a catalogue: written from its task folders, and current for the one that ships."""

import json
from pathlib import Path

import pytest
from kit.folders import task_folder

from env_registry.builtin import catalogue
from env_registry.index import index_rows, write_index
from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.catalogue import Catalogue


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    for name in ("b", "a"):
        task_folder(tmp_path, name=name)
    assert write_index(tmp_path) == 2
    rows = Catalogue(tmp_path).rows
    assert list(rows) == ["TerminalTraj/a", "TerminalTraj/b"]
    assert rows["TerminalTraj/a"].labels["difficulty"] == "easy"
    assert Catalogue(tmp_path).task("TerminalTraj/a").content_hash() == rows["TerminalTraj/a"].labels["hash"]


def test_a_task_that_cannot_be_read_stops_it(tmp_path: Path) -> None:
    task_folder(tmp_path, yaml="- a\n")
    with pytest.raises(BadTaskFormat):
        write_index(tmp_path)


def test_the_shipped_index_is_current() -> None:
    lines = (catalogue / "index.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == index_rows(catalogue), (
        "python -m env_registry.index …/builtin"
    )
