"""A runtime that works here and holds a task's image: what every command needs before it can play."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated

import typer

from terminal_gym.cli.report import say
from terminal_gym.errors import ImageMissing
from terminal_gym.sandbox.base import Image, Runtime, open_runtime
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Task

RuntimeName = Annotated[
    str, typer.Option(help="auto (docker where its daemon answers), docker, podman, namespace.")
]


@contextmanager
def ready(name: str, task: Task) -> Iterator[tuple[Runtime, Image]]:
    """Lend a runtime that works here and holds the task's image, built if need be.

    Raises:
        RuntimeUnavailable: It does not work here.
        BuildFailed: The image's recipe does not build.
    """
    with closing(open_runtime(name)) as runtime:
        runtime.check()
        images = [ready_image(runtime, recipe) for recipe in task.images]
        yield runtime, images[0]


def ready_image(runtime: Runtime, recipe: ImageRecipe) -> Image:
    """Return the image of `recipe`; made first, saying so on stderr, where the runtime does not hold it.

    Raises:
        BuildFailed: The recipe does not build.
        ImageMissing: It has no recipe, and no registry answers.
    """
    try:
        return runtime.image(recipe.name)
    except ImageMissing:
        say(f"{runtime.name} has no image {recipe.name}; building it …")
        image = runtime.build(recipe)
    if image.substituted:
        say(f"{recipe.name}: {image.substituted}")
    return image
