"""Which base images can be stood in for, and by what."""

from __future__ import annotations

from pathlib import Path

import pytest

from terminal_gym.errors import BuildFailed
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
     "someone/debian:bookworm", "ubuntu:24.04", "scratch"],
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
