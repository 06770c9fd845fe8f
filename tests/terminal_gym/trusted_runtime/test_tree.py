"""Where the tree is kept: built once, by one of many, whole or not at all."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from terminal_gym.trusted_runtime import build, tree

ASK = "from terminal_gym.trusted_runtime.tree import trusted_tree; t = trusted_tree(); print(t.path, t.hash)"


def test_many_processes_get_one_tree(tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    left = tmp_path / "terminal-gym" / "trusted" / ".build-left-by-the-dead"
    left.mkdir(parents=True)
    asking = [
        subprocess.Popen([sys.executable, "-c", ASK], env=env, stdout=subprocess.PIPE) for _ in range(3)
    ]
    said = {one.communicate(timeout=120)[0].decode() for one in asking}
    assert len(said) == 1
    path, _, digest = said.pop().strip().partition(" ")
    assert sorted(p.name for p in Path(path).parent.iterdir()) == [".lock", Path(path).name]
    assert digest == tree.tree_hash(Path(path))


def test_the_hash_tells_contents_and_names_apart(tmp_path: Path) -> None:
    hashes = set()
    for name, text, mode in [("a", "x", 0o644), ("a", "y", 0o644), ("b", "y", 0o644), ("b", "y", 0o755)]:
        root = tmp_path / f"{name}{text}{mode}"
        root.mkdir()
        (root / name).write_text(text)
        (root / name).chmod(mode)
        hashes.add(tree.tree_hash(root))
    assert len(hashes) == 4


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build", _half_a_build)
    with pytest.raises(OSError, match="disk is full"):
        tree._build_at(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_trees_long_out_of_use_are_removed(tmp_path: Path) -> None:
    for name, age in [("used", 0), ("unused", 10**7)]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "tree.sha256").write_text("")
        os.utime(tmp_path / name / "tree.sha256", (1.7e9, time.time() - age))
    (tmp_path / ".lock").write_text("")
    tree._sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"used", ".lock"}


def _half_a_build(root: Path) -> None:
    (root / "half").write_text("")
    raise OSError("disk is full")


def test_the_guest_s_first_process_is_in_the_tree(tree: tree.TrustedTree) -> None:
    for argument in ("/tg/bin/python3", "/tg/guest/init.py"):
        assert (tree.path / argument.removeprefix("/tg/")).is_file()
