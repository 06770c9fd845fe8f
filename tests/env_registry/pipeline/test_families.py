"""Every family on a small repository: its solution leaves what its tests want, and nothing less will do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from env_registry.pipeline import grounded
from env_registry.pipeline.grounded import FAMILIES, drawn
from env_registry.pipeline.tree import Drawn, Tree

_PYTHON = """# A part of it.
import os
import sys
from pathlib import Path

LIMIT_{n} = {n}00
OTHER_LIMIT = 7


def first_{n}(number):
    # adds
    return number + LIMIT_{n}


def second_{n}(number):
    value = helper(number)
    value += {n}

    return helper(value)


def helper(number):
    return number * OTHER_LIMIT
""" + "".join(f"\n\ndef extra_{{n}}_{k}(number):\n    return helper(number)\n" for k in range(4))
_WORDS = ("DEBUG_LEVEL", "walrus", "beaver", "ocelot", "badger", "marmot")
_TEST = "from pathlib import Path\n\n\n" + "\n\n".join(f"def test_{k}():\n    assert {k}\n" for k in range(4))
_FILES = {
    **{
        f"src/part{n}.py": _PYTHON.format(n=n)
        + f"WORD_{n} = 'tail{n}'\n" * n
        + "".join(f"# {w}\n" for w in _WORDS if n < 3)
        for n in range(1, 5)
    },
    "src/deep/note.txt": "one\ntwo 12\n",
    "tests/test_one.py": _TEST,
    "tests/test_two.py": _TEST + "\n\ndef test_more():\n    assert LIMIT_1\n",
    "README.md": "# Top\n\ntext\n\n## Use\n\n### Deep\n\n## More of it\n",
    "CHANGES.txt": "".join(f"1.{n}.0 and 1.0.0\n  - item\n" for n in range(9, 3, -1)),
    "setup.cfg": "[metadata]\nname = x\nversion = 1\n[options]\nzip = no\n[tool]\n",
    "package.json": '{\n  "name": "x",\n  "version": "1",\n  "main": "a.js",\n  "files": [\n    "b"\n  ]\n}\n',
    "Makefile": "all: one two\n\techo\none:\n\techo\ntwo: one\nA := b\n",
}
_BUILT = ("build/one.o", "build/two.o", "build/libx.so", "src/part1.pyc")


@pytest.fixture
def tree() -> Tree:
    return Tree("path:kit", _FILES, frozenset(_BUILT), ("build/libx.so", "build/one.o", "build/two.o"))


def played(one: Drawn, script: str, root: Path) -> bool:
    """Whether a script leaves what is wanted, /app and /tmp being folders of ours."""
    app, tmp = root / "app", root / "tmp"
    for path, text in {
        **_FILES,
        **dict.fromkeys(_BUILT, "\x7fELF\x00"),
        "src/part1.pyc": "x",
        **one.files,
    }.items():
        (app / path).parent.mkdir(parents=True, exist_ok=True)
        (app / path).write_text(text)
    tmp.mkdir()

    def moved(text: str) -> str:
        return text.replace("/tmp/", f"{tmp}/").replace("/app", str(app))

    subprocess.run(["bash", "-c", moved(script)], check=False, capture_output=True, timeout=20)
    names: dict[str, object] = {}
    exec(compile(moved(grounded.tests_of(one)[0]), "test_outputs.py", "exec"), names)
    try:
        for name in grounded.tests_of(one)[1]:
            names[name]()  # type: ignore[operator]
    except (AssertionError, OSError):
        return False
    return True


@pytest.mark.parametrize("family", FAMILIES)
def test_the_solution_passes_and_the_partial_one_does_not(family: str, tree: Tree, tmp_path: Path) -> None:
    one = drawn(tree, family, seed=0)
    assert one is not None
    assert played(one, one.solution, tmp_path / "whole")
    assert not played(one, one.partial, tmp_path / "partial")
    assert not played(one, "true", tmp_path / "nothing")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_draws_by_its_seed_and_its_tests_hold_no_line_of_the_repository(
    family: str, tree: Tree
) -> None:
    one = drawn(tree, family, seed=0)
    assert one == drawn(tree, family, seed=0)
    assert one is not None
    tests = grounded.tests_of(one)[0]
    lines = {line.strip() for text in _FILES.values() for line in text.splitlines() if len(line.strip()) > 12}
    assert not [line for line in lines - {"from pathlib import Path"} if line in tests]
    assert drawn(Tree("path:none", {}, frozenset(), ()), family, seed=0) is None


def test_what_is_alike_in_many_projects_is_not_asked_about() -> None:
    words = "".join(f"{name} " for name in ("MIT", "LICENSE", "SOFTWARE", "WARRANTY", "DAMAGES", "COPYRIGHT"))
    left = [f"vendor/composer/{name}" for name in ("a.php", "b.php", "c.php", "d.json", "e.json")]
    alike = Tree("path:a", {"LICENSE.txt": words}, frozenset(left), ())
    assert drawn(alike, "constants", seed=0) is None
    assert drawn(alike, "suffixes", seed=0) is None
    own = Tree("path:a", {"names.txt": words, "vendor/mine.php": "x\n"}, frozenset(left), ())
    assert drawn(own, "constants", seed=0) is not None
    assert drawn(own, "suffixes", seed=0) is not None
