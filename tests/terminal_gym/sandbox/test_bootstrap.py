"""Which base images can be stood in for, and by what."""

from __future__ import annotations

from pathlib import Path

import pytest

from terminal_gym.errors import BadSetting, BuildFailed
from terminal_gym.sandbox import bootstrap


@pytest.mark.parametrize(
    ("name", "suite", "has_python"),
    [
        ("debian:bookworm", "bookworm", False),
        ("debian:bookworm-slim", "bookworm", False),
        ("debian:12", "bookworm", False),
        ("debian:12.5-slim", "bookworm", False),
        ("debian:trixie-20250811-slim", "trixie", False),
        ("debian", "trixie", False),
        ("docker.io/library/debian:13", "trixie", False),
        ("python:3.11-slim", "bookworm", True),
        ("python:3.11-slim-bookworm", "bookworm", True),
        ("python:3.11.9-bookworm", "bookworm", True),
        ("python:3.13-slim-trixie", "trixie", True),
    ],
)
def test_known_bases(name: str, suite: str, has_python: bool) -> None:
    recipe = bootstrap.recipe_for(name)
    assert recipe is not None
    assert recipe.suite == suite
    assert ("python3" in recipe.packages) is has_python
    assert suite in recipe.describes


@pytest.mark.parametrize(
    "name",
    ["python:3.12-slim", "python:3.13-bookworm", "python:3.11-alpine", "debian:buster", "debian:12@sha256:0", "node:22",
     "someone/debian:bookworm", "ubuntu:22.04", "scratch"],
)  # fmt: skip
def test_nothing_else_is_stood_in_for(name: str) -> None:
    assert bootstrap.recipe_for(name) is None


def test_a_machine_without_the_tool_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(BuildFailed, match="mmdebstrap"),
        bootstrap.made(bootstrap.Recipe("bookworm"), log=lambda _: None),
    ):
        pass


def test_terminal_bench_s_own_bases_are_stood_in_for_and_say_so() -> None:
    found = bootstrap.recipe_for("ghcr.io/laude-institute/t-bench/ubuntu-24-04:20250624")
    assert found is not None
    assert (found.suite, found.workdir) == ("trixie", "/app")
    assert "in place of ghcr.io/laude-institute/t-bench/ubuntu-24-04:20250624" in found.describes
    python = bootstrap.recipe_for("laude-institute/t-bench/python-3-13:20250620")
    assert python is not None
    assert "python3-pip" in python.packages


def test_the_mapping_file_names_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bootstrap.mapped("ubuntu:24.04") is None
    file = tmp_path / "images.yaml"
    file.write_text("ubuntu:24.04: mine:1\nteam/tool:2: mine:2\n")
    monkeypatch.setenv("TGYM_BASE_IMAGES", str(file))
    assert bootstrap.mapped("ubuntu:24.04") == "mine:1"
    assert bootstrap.mapped("registry.example.org:5000/team/tool:2") == "mine:2"
    assert bootstrap.mapped("team/other:2") is None
    other = tmp_path / "other.yaml"
    other.write_text("- a\n")
    monkeypatch.setenv("TGYM_BASE_IMAGES", str(other))
    with pytest.raises(BadSetting, match="no mapping"):
        bootstrap.mapped("a")
