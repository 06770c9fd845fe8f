"""Manifests: ordered references; a wrong line is named."""

from pathlib import Path

import pytest
from kit.folders import task_folder

from terminal_gym.errors import BadSetting, BadTaskFormat, UnknownName
from terminal_gym.tasks.manifest import Manifest, open_manifest, pinned, read_manifest, write_manifest


def test_order_is_kept_and_paths_are_relative_to_the_manifest(tmp_path: Path) -> None:
    folder = task_folder(tmp_path, name="demo")
    path = tmp_path / "m.jsonl"
    path.write_text('{"path": "demo"}\n\n{"task": "TerminalTraj/a"}\n{"path": "demo"}\n')
    manifest = open_manifest(path)
    assert manifest.refs == (str(folder), "TerminalTraj/a", str(folder))
    assert open_manifest(manifest) is manifest
    assert open_manifest([folder]).tasks()[0].folder == folder


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", ["TerminalTraj/a", "TerminalTraj/b"])
    assert read_manifest(tmp_path / "m.jsonl") == Manifest(("TerminalTraj/a", "TerminalTraj/b"))


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "{}", '{"task": "a", "path": "b"}', '{"taks": "a"}', '{"task": 3}', '{"task": " "}', "\xff"],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "m.jsonl").write_bytes(b'{"task": "a"}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(BadTaskFormat) as caught:
        read_manifest(tmp_path / "m.jsonl")
    assert caught.value.line == 2


def test_an_empty_or_missing_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("\n")
    with pytest.raises(BadSetting):
        read_manifest(tmp_path / "m.jsonl")
    with pytest.raises(BadSetting):
        open_manifest([])
    with pytest.raises(BadTaskFormat):
        read_manifest(tmp_path / "nope.jsonl")


def test_an_unknown_task_is_found_out_when_it_is_opened() -> None:
    with pytest.raises(UnknownName):
        Manifest(("TerminalTraj/nothing-like-it",)).tasks()


def test_an_image_is_pinned_in_place(tmp_path: Path) -> None:
    folder = task_folder(tmp_path)
    manifest = tmp_path / "tasks.jsonl"
    manifest.write_text('{"path": "demo"}\n')
    digest = f"sha256:{'a' * 64}"
    assert read_manifest(manifest).tasks()[0].image.digest == ""
    pinned(manifest, {str(folder): digest})
    assert manifest.read_text() == f'{{"path": "demo", "image": "{digest}"}}\n'
    assert read_manifest(manifest).tasks()[0].image.digest == digest
    manifest.write_text('{"path": "demo", "image": "latest"}\n')
    with pytest.raises(BadTaskFormat, match="sha256"):
        read_manifest(manifest)
