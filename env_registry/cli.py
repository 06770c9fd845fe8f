"""`tgym registry …`: where tasks come from. Runs from an editable checkout."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, cast

import typer

from env_registry import dataset, store
from env_registry.templates import generate as templates
from env_registry.templates.draft import Split
from terminal_gym.cli.report import show, show_json, show_table

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


@app.command()
def index(
    folder: Annotated[Path, typer.Argument(help="A catalogue with an index.jsonl.")],
) -> None:
    """Write index.sqlite beside an index.jsonl: for catalogues of any size, opened in a moment."""
    typer.echo(
        f"{store.write_big_index(folder, store.read_jsonl(folder / 'index.jsonl'))} tasks: {folder / 'index.sqlite'}"
    )


@app.command()
def select(
    folder: Annotated[Path, typer.Argument(help="A catalogue with an index.sqlite.")],
    where: Annotated[
        list[str] | None,
        typer.Option(help=f"NAME=VALUE; may be repeated. Names: {', '.join(store.FILTERS)}."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A manifest, a new file; none: print the ids.")] = None,
) -> None:
    """Choose tasks by their labels, as a manifest or a list of ids."""
    wanted = dict(one.partition("=")[::2] for one in where or ())
    found = store.select(folder, wanted)
    if out is None:
        for id, _ in found:
            typer.echo(id)
        return
    count = 0
    with out.open("x", encoding="utf-8") as file:
        for _, path in found:
            place = os.path.relpath(folder / path, out.absolute().parent)
            file.write(json.dumps({"path": place}) + "\n")
            count += 1
    typer.echo(f"{count} tasks: {out}")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A catalogue.")],
    out: Annotated[Path, typer.Option(help="The data set, a new folder.")],
) -> None:
    """Write a catalogue as a data set: Parquet that holds whole task folders, loaded by `datasets` as well."""
    counts = dataset.push(folder, out)
    told = ", ".join(f"{count} {split}" for split, count in counts.items())
    show(f"{sum(counts.values())} tasks ({told}): {out}")


@app.command()
def pull(
    folder: Annotated[Path, typer.Argument(help="A data set that `push` wrote.")],
    out: Annotated[Path, typer.Option(help="The catalogue, a new folder.")],
) -> None:
    """Make a catalogue of a data set again; every task must be what its hash says."""
    show(f"{dataset.pull(folder, out)} tasks: {out}")


@app.command()
def stats(
    folder: Annotated[Path, typer.Argument(help="A catalogue with an index.sqlite.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count repositories, images and instances by language, as the paper's Table 1, and the funnel where it is kept."""
    rows = store.table_one(folder)
    kept = folder / "funnel.json"
    funnel = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    if as_json:
        show_json({"languages": rows, "funnel": funnel})
        return
    names = list(rows[0]) if rows else ["language"]
    total = {name: sum(row[name] for row in rows) for name in names[1:]}
    cells = [[str(row[name]) for name in names] for row in (*rows, {"language": "total", **total})]
    show_table("", names, cells)
    for stage, one in funnel.items():
        show(f"{stage}: {one['kept']} of {one['in']} kept")
