"""Catalogues: an index is read line by line, an id or a path finds its task."""

import json
from pathlib import Path

import pytest
from kit.folders import task_folder

from terminal_gym.errors import BadTaskFormat, UnknownName
from terminal_gym.tasks.catalogue import Catalogue, find_row, find_task, installed

HELLO = Path(__file__).parents[2] / "kit/tasks/hello"


def catalogue(root: Path, *lines: str) -> Catalogue:
    root.mkdir(exist_ok=True)
    (root / "index.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return Catalogue(root)


def test_rows_keep_their_order_and_labels(tmp_path: Path) -> None:
    rows = catalogue(
        tmp_path,
        '{"id": "b", "path": "x/b", "domain": "files"}',
        "",
        '{"id": "a", "path": "a", "namespace": "Mine"}',
    ).rows
    assert list(rows) == ["TerminalTraj/b", "Mine/a"]
    assert rows["TerminalTraj/b"].labels == {"domain": "files"}


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("{", None),
        ("[]", None),
        ('{"path": "a"}', "id"),
        ('{"id": 5, "path": "a"}', "id"),
        ('{"id": "a b", "path": "a"}', "id"),
        ('{"id": "a"}', "path"),
        ('{"id": "a", "path": "/etc"}', "path"),
        ('{"id": "a", "path": "../a"}', "path"),
        ('{"id": "first", "path": "a"}', "id"),
        ("\udcff", None),
    ],
)
def test_a_wrong_row_is_reported_with_its_line(tmp_path: Path, line: str, field: str | None) -> None:
    index = tmp_path / "index.jsonl"
    index.write_bytes(b'{"id": "first", "path": "first"}\n' + line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(BadTaskFormat) as caught:
        _ = Catalogue(tmp_path).rows
    assert (caught.value.line, caught.value.field) == (2, field)


def test_a_task_has_the_id_of_its_row(tmp_path: Path) -> None:
    task_folder(tmp_path / "deep", name="demo")
    listed = catalogue(tmp_path, json.dumps({"id": "other-name", "path": "deep/demo", "namespace": "Mine"}))
    assert str(listed.task("Mine/other-name").ref) == "Mine/other-name"
    with pytest.raises(UnknownName, match="'Mine/other-name'"):
        listed.task("Mine/other-nam")


def test_a_folder_without_an_index_lists_its_task_folders(tmp_path: Path) -> None:
    for name in ("task_2", "task_1"):
        task_folder(tmp_path, name=name)
    (tmp_path / "notes").mkdir()
    assert list(Catalogue(tmp_path).rows) == ["TerminalTraj/task_1", "TerminalTraj/task_2"]


def test_the_built_in_catalogue_is_installed_and_found_with_and_without_namespace() -> None:
    id = next(iter(installed()[0].rows))
    assert find_row(id) == find_row(id.partition("/")[2]) != None  # noqa: E711 - both, and not None
    assert find_task(id).ref == find_task(id.partition("/")[2]).ref


def test_a_path_finds_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = task_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert find_task(folder).folder == find_task("./demo").folder == find_task("demo").folder == folder
    assert str(find_task(str(folder), namespace="Mine").ref) == "Mine/demo"


@pytest.mark.parametrize("name", ["TerminalTraj/nothing-like-it", "nothing-like-it", "./nope", "/nope", ""])
def test_an_unknown_name_says_so(name: str) -> None:
    with pytest.raises(UnknownName):
        find_task(name)


def test_the_nearest_id_is_named() -> None:
    id = next(iter(installed()[0].rows))
    with pytest.raises(UnknownName, match=id):
        find_task(id + "x")
