"""Whose fault it is where an image that a build stands on cannot be made."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from env_registry.pipeline.build import Builder
from env_registry.pipeline.plan import SYSTEMS, Plan, recipe
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Rejected
from terminal_gym.errors import BuildFailed, StartFailed
from terminal_gym.sandbox.base import Image, Runtime
from terminal_gym.tasks.image import ImageRecipe


class Full:
    """A runtime without room for an image."""

    name = "full"

    def build(self, recipe: ImageRecipe, *, log: Callable[[str], None] | None = None) -> Image:
        raise BuildFailed("Dockerfile does not build", log_tail="No space left on device")


@pytest.mark.parametrize(
    ("packages", "error", "says"),
    [
        ((), StartFailed, "(?s)toolchain image of make.*No space left"),
        (("libnone-dev",), Rejected, "build-failed"),
    ],
    ids=["the machine's", "the model's that asked for a package"],
)
def test_a_toolchain_that_does_not_build(
    tmp_path: Path, packages: tuple[str, ...], error: type[Exception], says: str
) -> None:
    builder = Builder(Settings(tmp_path, tmp_path, ("path:x",)), cast(Runtime, cast(Any, Full())))
    with pytest.raises(error, match=says):
        builder._base(Plan("make", "make", "true", packages))


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_line_of_a_script_is_a_whole_command(name: str) -> None:
    plan = Plan(name, SYSTEMS[name].script, SYSTEMS[name].smoke)
    text = recipe("", plan).split("RUN ")
    for body in (plan.script, plan.smoke, *text[1:]):
        subprocess.run(["sh", "-n", "-c", body], check=True)
    assert len(text) == 3
