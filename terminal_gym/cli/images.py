"""`tgym images build` and `tgym reap`: what a runtime keeps on this machine."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from terminal_gym.cli.ready import ready_image
from terminal_gym.cli.report import show, show_json
from terminal_gym.cli.tasks import Folder, Json, Tasks, chosen
from terminal_gym.errors import RuntimeUnavailable
from terminal_gym.sandbox.base import RUNTIMES, open_runtime

app = typer.Typer(help="The images that tasks run on.", no_args_is_help=True)


@app.command("build")
def build(
    tasks: Tasks = None,
    catalogue: Folder = None,
    runtime: Annotated[str, typer.Option(help="auto, docker, podman or namespace.")] = "auto",
    json: Json = False,
) -> None:
    """Build, or find, the images of tasks. Where no registry answers, the base distribution is bootstrapped."""
    built: list[dict[str, str]] = []
    with closing(open_runtime(runtime)) as maker:
        maker.check()
        for task in chosen(tasks, catalogue):
            for recipe in task.images:
                image = ready_image(maker, recipe)
                facts = {"task": str(task.ref), "image": image.name, "digest": image.digest}
                built.append(facts | {"substituted": image.substituted})
                if not json:
                    show(f"{image.digest[:19]}  {image.name}  {image.substituted}")
    if json:
        show_json({"runtime": maker.name, "images": built})


def reap(
    runtime: Annotated[
        str, typer.Option(help="docker, podman or namespace; all: each that works here.")
    ] = "all",
    json: Json = False,
) -> None:
    """Remove what killed owners left: sandboxes, networks, volumes, mounts, overlay folders."""
    removed: dict[str, list[str]] = {}
    for name in RUNTIMES if runtime == "all" else (runtime,):
        with closing(open_runtime(name)) as maker:
            try:
                maker.check()
            except RuntimeUnavailable:
                if runtime != "all":
                    raise
                continue
            removed[name] = list(maker.reap())
    if json:
        show_json({"removed": removed})
        return
    for name, gone in removed.items():
        show(f"{name}: {', '.join(gone) or 'nothing was left'}")
