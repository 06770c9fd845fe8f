"""`tgym tasks`: list, show, lint, check."""

from __future__ import annotations

import collections
import datetime
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from terminal_gym.cli.ready import ready
from terminal_gym.cli.report import BROKEN, COLOUR, FAILED, PASSED, say, show, show_json, show_table
from terminal_gym.tasks.catalogue import Catalogue, find_task, installed, is_task_folder
from terminal_gym.tasks.lint import RANK
from terminal_gym.tasks.lint import lint as lint_folder
from terminal_gym.tasks.lint_tests import Finding
from terminal_gym.tasks.task import Task

MANY = 20  # folders: from there on, what is found is a table
app = typer.Typer(help="What tasks there are, and whether they are sound.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Tasks = Annotated[
    list[str] | None, typer.Argument(metavar="[TASK]...", help="Ids or folders; none: every one.")
]
Folder = Annotated[Path | None, typer.Option(help="A catalogue folder instead of the installed ones.")]


def catalogues(folder: Path | None) -> tuple[Catalogue, ...]:
    """Return the one catalogue at `folder`, else the installed ones."""
    if folder is None:
        return installed()
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is no folder")
    return (Catalogue(folder.absolute()),)


def chosen(names: list[str] | None, folder: Path | None = None) -> list[Task]:
    """Return the named tasks, or every task of the catalogues where none is named."""
    if names:
        return [find_task(name) for name in names]
    return [catalogue.task(id) for catalogue in catalogues(folder) for id in catalogue.rows]


@app.command("list")
def list_(
    catalogue: Folder = None,
    domain: Annotated[str, typer.Option(help="Only this domain.")] = "",
    json: Json = False,
) -> None:
    """List the tasks of the catalogues: id, domain, difficulty, judging mode, image."""
    found = [(id, row.labels) for c in catalogues(catalogue) for id, row in c.rows.items()]
    rows = [(id, labels) for id, labels in found if domain in ("", labels.get("domain"))]
    if json:
        show_json({"tasks": [{"task": id, **labels} for id, labels in rows]})
        return
    columns = ["domain", "difficulty", "mode", "image"]
    cells = [[id, *(str(labels.get(column, "")) for column in columns)] for id, labels in rows]
    show_table(f"{len(rows)} tasks", ["task", *columns], cells)


@app.command("show")
def show_(task: str, json: Json = False) -> None:
    """Show one task: instruction, image, limits, and how it is judged; never the tests or the solution."""
    found = find_task(task)
    facts = {
        "task": str(found.ref),
        "hash": found.content_hash(),
        "folder": str(found.folder),
        "domain": found.metadata.get("domain"),
        "difficulty": found.metadata.get("difficulty"),
        "image": found.image.name,
        "built_here": found.image.context is not None,
        "host_may_stand_in": found.image.host_allowed,
        "mode": found.validator.mode,
        "artifacts": list(found.validator.artifacts),
        "expected": list(found.validator.expected),
        "limits": asdict(found.limits),
        "has_solution": found.has_solution,
        "has_partial": found.partial is not None,
    }
    if json:
        show_json(facts | {"instruction": found.instruction})
        return
    for name, value in facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        show(f"{name:18}{text}")
    show(f"\n{found.instruction}")


@app.command("lint")
def lint(tasks: Tasks = None, catalogue: Folder = None, json: Json = False) -> None:
    """Read tasks without starting anything: what cannot work, leaks or judges nothing. Exit 1 on an error found.

    A folder of task folders is read whole, and what is found in it is shown as a table.
    """
    folders = [folder for name in tasks or () for folder in _folders(name)]
    if not tasks:
        folders = [c.path(row) for c in catalogues(catalogue) for row in c.rows.values()]
    found = [(folder, finding) for folder in folders for finding in lint_folder(folder)]
    errors = sum(finding.severity == "error" for _, finding in found)
    if json:
        items = [
            vars(finding) | {"path": str(finding.path), "task": folder.name} for folder, finding in found
        ]
        show_json({"folders": len(folders), "errors": errors, "findings": items})
    elif len(folders) > MANY:
        rows = [
            [f.severity, folder.name, _place(folder, f), f.rule, f"{f.what}. {f.advice}"]
            for folder, f in found
        ]
        show_table("", ["", "task", "where", "rule", "what"], rows)
        count = collections.Counter((f.severity, f.rule) for _, f in found)
        for (severity, rule), number in sorted(count.items(), key=lambda row: (RANK[row[0][0]], -row[1])):
            show(f"{number:6} {severity}: {rule}", style=COLOUR[severity])
        wrong = len({folder for folder, f in found if f.severity == "error"})
        show(f"{len(folders)} tasks read, {wrong} with errors, {len(found)} findings, {errors} errors")
    else:
        for folder, f in found:
            place = (
                f.path.relative_to(folder.absolute()) if f.path.is_relative_to(folder.absolute()) else f.path
            )
            where = f"{folder.name}/{place}" + (f":{f.line}" if f.line else "")
            show(f"{f.severity}: {where}: {f.what}. {f.advice} [{f.rule}]", style=COLOUR[f.severity])
        show(f"{len(folders)} tasks read, {len(found)} findings, {errors} errors")
    raise typer.Exit(FAILED if errors else PASSED)


def _place(folder: Path, found: Finding) -> str:
    path, base = found.path.absolute(), folder.absolute()
    where = path.relative_to(base) if path.is_relative_to(base) and path != base else path
    return f"{where}:{found.line}" if found.line else str(where)


def _folders(name: str) -> list[Path]:
    """The task folder of that name; where it is a folder of them, all that lie directly in it."""
    path = Path(name).expanduser()
    if path.is_dir() and not is_task_folder(path):
        inside = sorted(
            child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")
        )
        if any(map(is_task_folder, inside)):
            return inside
    return [_folder(name)]


def _folder(name: str) -> Path:
    path = Path(name).expanduser()
    return path if name.startswith((".", "/", "~")) and path.is_dir() else find_task(name).folder


@app.command("calibrate")
def calibrate(
    tasks: Annotated[
        list[str], typer.Argument(metavar="FOLDER...", help="Task folders, or folders of them.")
    ],
    runtime: Annotated[str, typer.Option(help="auto, docker, podman or namespace.")] = "auto",
    write: Annotated[
        Path | None, typer.Option(help="The file; else FOLDER.calibration.jsonl beside the set.")
    ] = None,
    json: Json = False,
) -> None:
    """Find, with the oracle, the strict judge that is fair to each foreign task. Exit 1 where none is."""
    from terminal_gym.rollout.calibrate import calibrate as calibrated
    from terminal_gym.tasks import calibration

    rows = []
    for folder in [folder for name in tasks for folder in _folders(name)]:
        task = find_task(folder, namespace="TerminalBench")
        with ready(runtime, task) as (maker, _):
            row = calibrated(calibration.without(task), runtime=maker, told=say)
        if row is None:
            say(f"{folder.name}: no oracle, or its author chose: left as it is")
            continue
        calibration.write(write or calibration.beside(folder.absolute().parent), [row])
        rows.append(row)
        if not json:
            word = "passed" if row.fair else "failed"
            note = f" ({row.note})" if row.note else ""
            show(f"{word:8}{row.task}: {row.judge}, {row.mode}, {row.user}{note}", style=COLOUR[word])
    if json:
        show_json({"calibrations": [asdict(row) for row in rows]})
    raise typer.Exit(PASSED if all(row.fair for row in rows) else FAILED)


@app.command("pin")
def pin(
    manifest: Annotated[Path, typer.Argument(help="A manifest; rewritten in place.")],
    runtime: Annotated[str, typer.Option(help="auto, docker, podman or namespace.")] = "auto",
) -> None:
    """Write the digest of each task's image into a manifest; whoever opens it is refused another image."""
    from terminal_gym.tasks.manifest import pinned, read_manifest

    digests = {}
    for ref, task in zip(read_manifest(manifest).refs, read_manifest(manifest).tasks(), strict=True):
        with ready(runtime, task) as (_, image):
            digests[ref] = image.digest
            show(f"{image.digest[:19]}  {task.ref}")
    pinned(manifest, digests)


@app.command("check")
def check(
    tasks: Tasks = None,
    catalogue: Folder = None,
    runtime: Annotated[str, typer.Option(help="auto, docker, podman or namespace.")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Times each agent plays each task.")] = 3,
    write: Annotated[bool, typer.Option(help="Store the record beside the task, as validity.json.")] = True,
    json: Json = False,
) -> None:
    """Run the validity gate: oracle passes, no-op fails, partial fails, the same verdict each time. Exit 1 if not."""
    # Here, not above: the environment and what it imports are slow, and only this command needs them.
    from terminal_gym.rollout.gate import check_task, store

    records = []
    for task in chosen(tasks, catalogue):
        today = datetime.date.today().isoformat()
        with ready(runtime, task) as (maker, _):
            record = check_task(task, runtime=maker, repeats=repeats, date=today, progress=say)
        records.append(record)
        if write:
            store(record, task.folder)
        if not json:
            word = "passed" if record.valid else "broken" if record.is_broken else "failed"
            show(
                f"{word:8}{record.task}: {'; '.join(record.problems) or f'{record.seconds:.1f} s'}",
                style=COLOUR[word],
            )
    if json:
        show_json({"records": [record.as_object() for record in records]})
    worst = BROKEN if any(r.is_broken for r in records) else FAILED
    raise typer.Exit(PASSED if all(record.valid for record in records) else worst)
