"""`tgym bench …`: how good, and how fast beside the bare floor of the same machine. Runs from an editable checkout."""

from __future__ import annotations

import json
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from benchmarks.evaluate import run_terminal_bench
from benchmarks.leaderboard import run_leaderboard_check
from benchmarks.parity.command import run_parity
from benchmarks.report import run_report
from benchmarks.speed import head as one_head
from benchmarks.speed import many_images, run_store, suite
from benchmarks.speed.clock import Measured, keep, save
from benchmarks.speed.peers.compare import Plan
from benchmarks.speed.peers.suite import run as compare_peers
from terminal_gym.sandbox.base import open_runtime

app = typer.Typer(name="bench", help="Benchmarks. They never run in the tests.", no_args_is_help=True)
RESULTS = Path(__file__).parent / "results"
app.command("terminal-bench")(run_terminal_bench)
app.command("report")(run_report)
app.command("leaderboard-check")(run_leaderboard_check)
app.command("parity")(run_parity)


@app.callback()
def bench() -> None:
    """Benchmarks. They never run in the tests."""


@app.command()
def speed(
    runtimes: Annotated[
        list[str] | None, typer.Option("--runtime", help="docker or namespace; may be repeated.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=3, help="Turns that count, for each contender.")] = 15,
    out: Annotated[
        Path | None,
        typer.Option(help="Raw numbers as JSON; default: benchmarks/results/speed-<runtime>.json."),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="The same work for us, the floors and other harnesses, in turns.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="With --peers: this contender; may be repeated.")
    ] = None,
    at_once: Annotated[
        str, typer.Option(help="With --peers: episodes at once, such as 8,32; 0: none.")
    ] = "8",
) -> None:
    """Measure reset, step, 10 MB of output, verification and idle memory, each beside its floor."""
    console = Console()
    if peers:
        target = out or RESULTS / "peers.json"
        plan = Plan(repeats=repeats, at_once=_counts(at_once))
        compare_peers(plan, target, only=only or (), say=lambda text: console.print(text, style="dim"))
        console.print(Markdown(target.with_suffix(".md").read_text("utf-8")))
        return
    for runtime in runtimes or ["docker", "namespace"]:
        tables = suite.measure(runtime, repeats=repeats, say=lambda text: console.print(text, style="dim"))
        for title, rows in tables.items():
            console.print(_table(f"{runtime}: {title}", rows))
        suite.write(out or RESULTS / f"speed-{runtime}.json", runtime, tables)


@app.command()
def scale(
    runtimes: Annotated[
        list[str] | None, typer.Option("--runtime", help="docker or embedded; may be repeated.")
    ] = None,
    at_once: Annotated[
        str, typer.Option(help="How many episodes at once, one after the other.")
    ] = "1,8,32,64,128",
    episodes: Annotated[int, typer.Option(min=1, help="For each of those at once.")] = 2,
    images: Annotated[
        str, typer.Option(help="Then also with so many distinct images on Docker, such as 10,100,1000.")
    ] = "",
    out: Annotated[Path, typer.Option(help="JSON; a page and a plot are written beside it.")] = RESULTS
    / "scale.json",
) -> None:
    """Whole episodes a minute, and what one costs, from one at once to many, and with many distinct images."""
    console = Console()

    def say(text: str) -> None:
        console.print(text, style="dim")

    if numbers := _counts(at_once):
        plan = Plan(repeats=0, at_once=numbers, episodes=episodes, turns=1)
        only = [f"terminal-gym {runtime}" for runtime in runtimes or ["docker", "embedded"]]
        compare_peers(plan, out, only=only, say=say)
        console.print(Markdown(out.with_suffix(".md").read_text("utf-8")))
    if counts := [int(word) for word in images.split(",") if word]:
        rows = many_images.measure(counts, resets=20, at_once=16, steps=20, say=say)
        keep(out.with_name(f"{out.stem}-images.json"), "What do many distinct images cost?", rows=rows)
        console.print_json(json.dumps([{k: v for k, v in row.items() if k != "reset_ms"} for row in rows]))


def _counts(words: str) -> tuple[int, ...]:
    """Return the numbers between the commas, without zeros: 0 is how none is asked for."""
    return tuple(int(word) for word in words.split(",") if int(word))


@app.command()
def store(
    count: Annotated[
        int, typer.Option(min=100, help="Trajectories in the run that is opened and exported.")
    ] = 50_733,
    repeats: Annotated[int, typer.Option(min=3, help="Turns that count, for each contender.")] = 7,
    out: Annotated[Path, typer.Option(help="Raw numbers as JSON.")] = RESULTS / "store.json",
) -> None:
    """Measure storing a trajectory, opening and listing a run of many, and exporting it to Parquet."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        run_store.fill(Path(folder) / "run", count, say=lambda text: console.print(text, style="dim"))
        tables = {
            "store one, no token ids": run_store.appending(repeats * 5, ids=False),
            "store one, with token ids": run_store.appending(repeats * 5, ids=True),
            f"open {count:,}": run_store.opening(Path(folder) / "run", repeats),
            f"list {count:,}": run_store.listing(Path(folder) / "run", repeats),
            f"export {count:,}": run_store.exporting(Path(folder) / "run"),
        }
    for title, rows in tables.items():
        console.print(_table(title, rows))
    save(out, "run_store", tables)


@app.command()
def head(
    nodes: Annotated[int, typer.Option(min=1, help="Places that stand in for nodes.")] = 1000,
    at_once: Annotated[
        str, typer.Option(help="Episodes under way at once, one after the other.")
    ] = "64,1000,8000",
    out: Annotated[Path, typer.Option(help="Raw numbers as JSON.")] = RESULTS / "head.json",
) -> None:
    """Measure what the process that decides takes for each episode on many nodes; nothing is played."""
    rows = [one_head.measure(nodes=nodes, episodes=2 * n + 2000, at_once=n) for n in _counts(at_once)]
    keep(out, "What can one head drive?", rows=rows)
    Console().print_json(json.dumps(rows))


@app.command()
def learning(
    out: Annotated[Path, typer.Option(help="Where everything is kept; gone on with where it was begun.")],
    size: Annotated[
        str, typer.Option(help="full, small (fewer attempts and tasks) or pilot (does it run).")
    ] = "full",
    seeds: Annotated[str, typer.Option(help="Which seeds, one after the other.")] = "0,1,2",
    parts: Annotated[
        str,
        typer.Option(help="Of these, sources and left_out: what is run for each seed, in this order."),
    ] = "base,sft,blind,rft,more,faster",
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so long; the same command goes on.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Episodes at once.")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    report: Annotated[
        Path | None,
        typer.Option(help="Write report.md, results.json and results.png there: of what is whole so far."),
    ] = None,
) -> None:
    """Does the whole loop make a policy better? Teacher, SFT, live rollouts, RFT, and a blind student; resumable."""
    from benchmarks.learning import suite  # not above: it needs torch, and other benchmarks do not

    console = Console()
    suite.run(
        out,
        size=size,
        seeds=suite.numbers(seeds),
        parts=[part.strip() for part in parts.split(",") if part.strip()],
        minutes=minutes,
        concurrency=concurrency,
        threads=threads,
        report_to=report,
        say=lambda text: console.print(text, style="dim", highlight=False),
    )


@app.command()
def soak(
    state: Annotated[
        Path, typer.Option(help="Folder of the soak: what is done is kept there, and gone on with.")
    ],
    episodes: Annotated[int, typer.Option(min=1, help="In all, with what is done already.")] = 5_000,
    runtime: Annotated[str, typer.Option(help="docker or namespace.")] = "namespace",
    concurrency: Annotated[int, typer.Option(min=1, help="Episodes at once.")] = 4,
    chunk: Annotated[int, typer.Option(min=1, help="Episodes of one rollout.")] = 500,
    minutes: Annotated[float, typer.Option(help="Begin no further rollout after that.")] = 15.0,
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 7,
    out: Annotated[Path | None, typer.Option(help="The result as JSON.")] = None,
) -> None:
    """Play attacks and honest work for hours, rollouts and sandboxes killed meanwhile: leaks, growth, verdicts."""
    from benchmarks.soak.chunk import Asked
    from benchmarks.soak.soak import soak as play

    console = Console()
    asked = Asked(state, runtime, concurrency, seed)
    state.mkdir(parents=True, exist_ok=True)
    told = play(
        asked,
        episodes=episodes,
        per_chunk=chunk,
        minutes=minutes,
        say=lambda text: console.print(text, style="dim"),
    )
    shown = {key: value for key, value in told.items() if key not in ("cases", "chunks", "machine")}
    console.print_json(json.dumps(shown))
    (out or RESULTS / f"soak-{runtime}.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")


@app.command()
def engine(
    runtime: Annotated[str, typer.Option(help="docker or namespace.")] = "docker",
    task: Annotated[str, typer.Option(help="A task that its oracle solves.")] = "bird-census",
    repeats: Annotated[int, typer.Option(min=3, help="Turns that count, for each contender.")] = 9,
    episodes: Annotated[int, typer.Option(min=1, help="How many at once.")] = 64,
    out: Annotated[Path, typer.Option(help="Raw numbers as JSON.")] = RESULTS / "engine.json",
) -> None:
    """Measure what the rollout engine adds to an episode, and play many episodes at once."""
    from benchmarks.speed import engine as question

    console = Console()
    with closing(open_runtime(runtime)) as maker:
        maker.check()
        tables = {
            f"{runtime}: one episode": question.overhead(maker, task, repeats=repeats),
            f"{runtime}: {episodes} episodes at once": question.many(maker, task, episodes=episodes),
        }
    for title, rows in tables.items():
        console.print(_table(title, rows))
    save(out, "engine", tables)


def _table(title: str, rows: dict[str, Measured]) -> Table:
    table = Table(title=title)
    for heading in ("", "median", "p90", "unit", "over floor"):
        table.add_column(heading, justify="left" if heading in ("", "unit") else "right")
    floor = rows.get("floor")
    for row in rows.values():
        ratio = f"{row.ratio_to(floor):.2f}" if floor is not None and row is not floor else ""
        table.add_row(row.name, f"{row.median:.2f}", f"{row.p90:.2f}", row.unit, ratio)
    return table
