"""Small repositories for the pipeline's tests, and an image that builds them: `make` of this machine over the base."""

from __future__ import annotations

import shutil
from pathlib import Path

from identify.vendor import licenses

from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.terminal_bench import built_image

MIT = dict(licenses.LICENSES)["MIT"]
MAKEFILE = "all:\n\tcat src/*.c > all.c\n\t@echo built\n"


def repository(
    root: Path, name: str = "proj", *, makefile: str = MAKEFILE, licence: str = MIT, word: str = "value"
) -> Path:
    """Return a folder with a licence, a Makefile and four C files that speak of `word`."""
    folder = root / name
    (folder / "src").mkdir(parents=True)
    (folder / "README.md").write_text(f"# {name}\n\nComputes a {word}.\n", "utf-8")
    (folder / "Makefile").write_text(makefile, "utf-8")
    if licence:
        (folder / "LICENSE").write_text(licence, "utf-8")
    for part in range(1, 5):
        lines = ["#include <stdio.h>", *(f"#define {word.upper()}_{part}_{n} {n}" for n in range(3))]
        lines += [
            f"int {word}_{n}(int number) {{ return number + {word}_{part}({n}); }}" for n in range(part * 9)
        ]
        (folder / "src" / f"part{part}.c").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def make_image(folder: Path) -> ImageRecipe:
    """Return the recipe of an image with `make` in it; nothing is installed from anywhere."""
    made = shutil.which("make")
    assert made, "these tests need make on this machine"
    folder.mkdir()
    shutil.copy(made, folder / "make")
    (folder / "Dockerfile").write_text("FROM debian:bookworm\nCOPY make /usr/bin/make\n", "utf-8")
    return built_image(folder, "Dockerfile", slug="pipeline-make")
