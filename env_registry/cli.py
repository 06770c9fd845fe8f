"""`tgym registry …`: where tasks come from. Runs from an editable checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from env_registry.templates import generate as templates
from env_registry.templates.draft import Split

app = typer.Typer(name="registry", help="Where tasks come from.", no_args_is_help=True)


@app.callback()
def registry() -> None:
    """Where tasks come from."""


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="The catalogue folder, a new one.")],
    family: Annotated[
        list[str] | None, typer.Option(help="A family or a domain; may be repeated. None: every family.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Instances of each family.")] = 10,
    seed: Annotated[int, typer.Option(help="The same seed gives the same instances.")] = 0,
    split: Annotated[str, typer.Option(help="train, val or test: no number is in two of them.")] = "train",
) -> None:
    """Write instances of task families: task folders, an index and a manifest."""
    instances = [
        instance
        for kind in templates.chosen(family or [])
        for instance in templates.drawn(kind, split=cast(Split, split), seed=seed, count=count)
    ]
    names = templates.write(instances, out)
    typer.echo(f"{len(names)} tasks: {out / 'manifest.jsonl'}")


@app.command()
def families() -> None:
    """List the families that `generate` knows."""
    for kind in templates.FAMILIES.values():
        about = (kind.draw.__doc__ or "").strip()
        typer.echo(
            f"{kind.name:10}{kind.domain:13}{kind.dependent_turns} turns that depend on output. {about}"
        )
