"""What a Dockerfile stands on, and what enters its build."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from terminal_gym.sandbox.images import bases, context_tar, described
from terminal_gym.tasks.image import ImageRecipe


def test_bases_are_images_not_stages() -> None:
    text = """
# syntax=docker/dockerfile:1
ARG TAG=bookworm
ARG REPO="debian"
FROM --platform=linux/amd64 ${REPO}:$TAG AS Base
FROM python:${PYTHON:-3.11}-slim as tools
FROM scratch
FROM base
FROM ${UNKNOWN}
from debian:bookworm
"""
    assert bases(text) == ["debian:bookworm", "python:3.11-slim"]


def test_context_leaves_out_what_is_named(tmp_path: Path) -> None:
    for name in (
        "Dockerfile",
        "app/main.py",
        "app/secret.key",
        "tests/test_it.py",
        "solution.sh",
        "notes.md",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").write_text("# keys stay here\n**/*.key\n\n*.md\n")
    recipe = ImageRecipe("x:1", tmp_path, exclude=("tests", "solution*"))
    with tarfile.open(fileobj=io.BytesIO(context_tar(recipe))) as tar:
        assert sorted(tar.getnames()) == ["Dockerfile", "app", "app/main.py"]
        assert {entry.uid for entry in tar} == {0}


def test_context_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    recipe = ImageRecipe("x:1", tmp_path)
    first = context_tar(recipe)
    (tmp_path / "Dockerfile").touch()
    assert context_tar(recipe) == first


def test_described_reads_what_the_engine_says() -> None:
    config = {
        "Env": ["A=b=c", "EMPTY="],
        "Labels": {"terminal-gym.substituted": "Debian"},
        "WorkingDir": "",
        "User": "me",
    }
    image = described("x:1", {"Id": "sha256:0", "Config": config})
    assert image.env == {"A": "b=c", "EMPTY": ""}
    assert (image.workdir, image.user, image.substituted) == ("/", "me", "Debian")
    assert described("y:1", {"Id": "sha256:1", "Config": {"Env": None, "Labels": None}}).env == {}
