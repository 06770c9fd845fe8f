"""What is done with a run folder: `tgym stats`, `tgym export`, `tgym replay`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from terminal_gym.cli.ready import RuntimeName, ready_image
from terminal_gym.cli.report import say, show, show_json, show_table
from terminal_gym.cli.rollout import Settings, rate, read_settings, report
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.trajectory.metrics import by_task
from terminal_gym.trajectory.store import Run

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]


def stats(run: RunFolder, json: Json = False) -> None:
    """Print the funnel, the solve rate with its interval, pass@k, and the solve-rate bands of a run."""
    opened = Run(run)
    if not json:
        tasks = by_task(opened.standing.values())
        cells = [
            [task, rate(one), str(one.broken), one.band, f"{one.seconds:.1f} s"]
            for task, one in tasks.items()
        ]
        show_table(str(run), ["task", "solved", "broken", "band", "time"], cells)
    planned = len(opened.settings.get("tasks", ())) * int(opened.settings.get("attempts", 0))
    report(opened, planned=planned or len(opened), json=json)


def repair(run: RunFolder, json: Json = False) -> None:
    """Keep what is whole in a run folder that is damaged in the middle; the files as they were go to torn/.

    Exit codes: 0 nothing was lost, 3 records were lost; `tgym rollout --resume` plays their attempts again.
    """
    from terminal_gym.trajectory.salvage import salvage

    done = salvage(run)
    lost = bool(done.damaged or done.doubled)
    if json:
        stretches = [{"from": at, "bytes": length} for at, length in done.damaged]
        show_json({"kept": done.kept, "damaged": stretches, "doubled": done.doubled, "index": done.index})
    else:
        show(f"{run}: {done.kept} records kept")
        for at, length in done.damaged:
            show(f"  damaged: {length} bytes from {at}", style="yellow")
        if done.doubled:
            show(f"  {done.doubled} records of attempts that had a verdict", style="yellow")
        if done.index:
            show(f"  the index was made again: {done.index}", style="yellow")
    raise typer.Exit(3 if lost else 0)


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="A new folder.")],
    format: Annotated[
        str,
        typer.Option(
            help="messages, tokens, preference, terminus-2, trajectories, atif, asciicast, or harbor: a job folder."
        ),
    ] = "messages",
    lines: Annotated[bool, typer.Option("--lines", help="JSON lines instead of Parquet.")] = False,
    per_task: Annotated[int | None, typer.Option(help="At most so many attempts of one task.")] = None,
    most_turns: Annotated[int | None, typer.Option(help="Leave longer ones out.")] = None,
    band: Annotated[
        list[str] | None,
        typer.Option(help="Solve-rate band of the task: never, rarely, sometimes, often, always."),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Let failed attempts in as well.")] = False,
    cut_short: Annotated[bool, typer.Option(help="Let in what a limit ended.")] = True,
    judged_by: Annotated[
        str, typer.Option(help="A model of `tgym judge`: it chooses, and not the code.")
    ] = "",
    json: Json = False,
) -> None:
    """Write the attempts that passed as a data set, with a card: chats, token ids, preference pairs, recordings."""
    from terminal_gym.export.select import Gate
    from terminal_gym.export.write import export as write
    from terminal_gym.rollout.judge import judgements

    statuses: tuple[str, ...] = ("passed",)
    if failed or judged_by or format == "preference":
        statuses = ("passed", "failed")
    if format == "harbor":
        statuses = ("passed", "failed", "broken")
    told = judgements(run, model=judged_by).values() if judged_by else ()
    liked = frozenset(one.sha256 for one in told if one.solved) if judged_by else None
    gate = Gate(statuses, per_task, most_turns, tuple(band or ()), cut_short, liked)  # type: ignore[arg-type]
    done = write(Run(run), out, form=format, gate=gate, lines=lines)
    if json:
        facts = {
            "folder": str(done.folder),
            "attempts": done.attempts,
            "rows": done.rows,
            "dropped": done.dropped,
        }
        show_json(facts)
        return
    show(f"{done.folder}: {done.rows} rows of {done.attempts} attempts")
    for why, count in done.dropped.items():
        show(f"  left out: {count} {why}")


def judge(
    run: RunFolder,
    model: Annotated[str, typer.Option(help="<kind>/<model>, e.g. openai/gpt-4.1.")],
    model_setting: Settings = None,
    concurrency: Annotated[int, typer.Option(help="Questions at once.")] = 4,
    json: Json = False,
) -> None:
    """Ask a model whether each attempt solved its task; kept beside the code's verdict, and compared with it."""
    from terminal_gym.llm.chat import open_model
    from terminal_gym.rollout.judge import agreement, judgements
    from terminal_gym.rollout.judge import judge as ask

    opened = Run(run)
    with closing(open_model(model, **read_settings(model_setting))) as asked:
        ask(opened, asked, concurrency=concurrency)
        facts = agreement(opened, judgements(opened.folder, model=asked.name))
    if json:
        show_json({"run": str(run), "model": model, **facts})
    else:
        show(", ".join(f"{name} {value}" for name, value in facts.items()))


def import_(
    rows: Annotated[
        Path, typer.Argument(metavar="ROWS", help="A .parquet or .jsonl file with a column `messages`.")
    ],
    out: Annotated[Path, typer.Option(help="The run folder, a new one.")],
) -> None:
    """Read released TerminalTraj rows into a run folder. They have no verdict, and count as not judged."""
    from terminal_gym.export.released import import_rows

    if rows.suffix not in (".parquet", ".jsonl", ".json") or not rows.is_file():
        raise typer.BadParameter(f"{rows} is no .parquet or .jsonl file")
    show(f"{out}: {import_rows(rows, out)} trajectories")


def replay(
    run: RunFolder,
    runtime: RuntimeName = "auto",
    concurrency: Annotated[int, typer.Option(help="How many at once.")] = 2,
    limit: Annotated[int | None, typer.Option(help="At most so many trajectories.")] = None,
    json: Json = False,
) -> None:
    """Type every trajectory's actions again in a fresh sandbox and compare the verdicts.

    Exit codes: 0 all agree, 1 some do not, 3 some could not be judged.
    """
    from terminal_gym.rollout.audit import replay as again
    from terminal_gym.rollout.audit import summary
    from terminal_gym.rollout.job import Job

    opened = Run(run)
    tasks = Job.from_run(opened).open_tasks()
    rows = [row for row in opened.standing.values() if row.status != "broken"][:limit]
    with closing(open_runtime(runtime)) as maker:
        maker.check()
        for name in sorted({row.task for row in rows}):
            ready_image(maker, tasks[name].image)
        told = list(again(opened.read_all(rows), tasks, maker, concurrency=concurrency))
    for one in told:
        if not one.agrees:
            say(f"{one.task} {one.attempt}: was {one.before}, is {one.after} {one.reason[:200]}")
    facts = summary(told)
    if json:
        show_json({"run": str(run), **facts})
    else:
        show(", ".join(f"{name} {value}" for name, value in facts.items()))
    raise typer.Exit(3 if facts["broken"] else 0 if all(one.agrees for one in told) else 1)
