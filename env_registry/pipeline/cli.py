"""`tgym pipeline …`: from repositories to accepted instances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from env_registry.pipeline.run import funnel, run, shown
from env_registry.pipeline.settings import Settings, read_settings
from env_registry.pipeline.spent import Spent
from env_registry.pipeline.stage import STAGES, Row, Told
from terminal_gym.cli.report import BROKEN, say, show, show_json, show_table

app = typer.Typer(
    name="pipeline",
    help="From repositories to instances: collect, score, build, generate, accept.",
    no_args_is_help=True,
)
Config = Annotated[Path, typer.Option(help="The settings, a YAML file; see docs/pipeline.md.")]
Cluster = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS", help="A Ray cluster that builds and proves: ray://HOST:PORT, HOST:PORT, or auto."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing of single items.")]


@app.callback()
def pipeline() -> None:
    """From repositories to instances."""


@app.command("run")
def run_(config: Config, cluster: Cluster = "", quiet: Quiet = False) -> None:
    """Run every stage; what was decided before is not decided again.

    Exit codes: 0 done, 3 some items have no row because the machine failed: run it again.
    """
    _run(config, STAGES, quiet, cluster)


@app.command()
def collect(config: Config, quiet: Quiet = False) -> None:
    """Fetch sources; let in by size, licence, language and newness."""
    _run(config, ["collect"], quiet)


@app.command()
def score(config: Config, quiet: Quiet = False) -> None:
    """Score candidates; drop those that are not worth a build."""
    _run(config, ["score"], quiet)


@app.command()
def build(config: Config, cluster: Cluster = "", quiet: Quiet = False) -> None:
    """Build images in sandboxes."""
    _run(config, ["build"], quiet, cluster)


@app.command()
def generate(config: Config, quiet: Quiet = False) -> None:
    """Write instances, from grounded templates and by a model."""
    _run(config, ["generate"], quiet)


@app.command()
def accept(config: Config, cluster: Cluster = "", quiet: Quiet = False) -> None:
    """Prove instances: oracle, no-op, partial, redundant tests, cheats, leaks."""
    _run(config, ["accept"], quiet, cluster)


@app.command("swap")
def swap_(config: Config, quiet: Quiet = False) -> None:
    """Play every accepted instance's solution over every image: it must fail on all but its own repository's.

    Exit codes: 0 done, 3 some images have no row because the machine failed: run it again.
    """
    from env_registry.pipeline.swap import swap, swapped

    settings = read_settings(config)
    told = swap(settings, progress=lambda row: None if quiet else say(f"swap {row.key}"))
    found = [one for one in swapped(settings.work) if one.tried]
    alone = sum(one.own and not one.elsewhere for one in found)
    show(shown(told))
    show(f"{alone} of {len(found)} instances pass on their own repository's image and on no other")
    for one in found:
        if one.elsewhere:
            say(f"{one.key} passes on {len(one.elsewhere)} of {one.tried} others, e.g. {one.elsewhere[0]}")
    if told.broken:
        raise typer.Exit(BROKEN)


@app.command("rate")
def rate_(config: Config, quiet: Quiet = False) -> None:
    """Ask a judge's model what it thinks of the accepted instances; it decides nothing.

    Exit codes: 0 done, 3 some items have no row because the machine failed: run it again.
    """
    from env_registry.pipeline.rate import rate

    told = rate(read_settings(config), progress=lambda row: None if quiet else _tell("rate", row))
    show(shown(told))
    if told.broken:
        raise typer.Exit(BROKEN)


@app.command("funnel")
def funnel_(
    config: Config, json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Show how many came and went at each stage, and why."""
    found = funnel(read_settings(config))
    if json:
        show_json(found)
        return
    cells = [
        [
            stage,
            str(one["in"]),
            str(one["kept"]),
            ", ".join(f"{n} {why}" for why, n in one["rejected"].items()),
            str(Spent(**one.get("spent", {}))),
        ]
        for stage, one in found.items()
    ]
    show_table("", ["stage", "in", "kept", "rejected", "models"], cells)


@app.command("publish")
def publish_(
    config: Config,
    out: Annotated[Path, typer.Option(help="The catalogue and data set, a new folder.")],
    grounded: Annotated[
        bool,
        typer.Option("--grounded", help="Only what reads its own repository, and passed on no other (swap)."),
    ] = False,
    played: Annotated[
        list[Path] | None,
        typer.Option("--run", help="A run folder: how often agents solved an instance tells its difficulty."),
    ] = None,
) -> None:
    """Write what was accepted as a catalogue folder that `datasets` loads as well."""
    from env_registry.pipeline.publish import publish

    show(f"{publish(read_settings(config), out, grounded=grounded, runs=played or ())} instances: {out}")


def _run(config: Path, stages: list[str] | tuple[str, ...], quiet: bool, cluster: str = "") -> None:
    settings: Settings = read_settings(config)

    told: list[Told] = run(
        settings,
        stages,
        cluster=cluster,
        progress=lambda stage, row: None if quiet else _tell(stage, row),
        told=say,
    )
    for one in told:
        show(shown(one))
    spent = sum((one.spent for one in told), Spent())
    if spent.calls and len(told) > 1:
        show(f"models: {spent}")
    if any(one.broken for one in told):
        raise typer.Exit(BROKEN)


def _tell(stage: str, row: Row) -> None:
    cost = str(Spent.in_rows([row.cells]))
    words = [
        f"{stage} {row.key}:",
        "kept" if row.kept else row.reason,
        row.detail[:160],
        f"({cost})" if cost else "",
    ]
    say(" ".join(word for word in words if word))
