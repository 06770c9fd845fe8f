"""`tgym audit`: attacks played on tasks, and what came of each."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from terminal_gym.cli.ready import ready_image
from terminal_gym.cli.report import BROKEN, FAILED, PASSED, say, show, show_json, show_table
from terminal_gym.cli.tasks import Folder, Json, Tasks, chosen
from terminal_gym.errors import UsageError
from terminal_gym.rollout import attack_page
from terminal_gym.rollout.attacks import Case, generic_cases, installed_suite
from terminal_gym.rollout.gauntlet import Finding, play_all
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.task import Task


def audit(
    tasks: Tasks = None,
    catalogue: Folder = None,
    runtime: Annotated[str, typer.Option(help="auto, docker, podman or namespace.")] = "auto",
    attack: Annotated[
        list[str] | None, typer.Option(help="Only this attack, row (C7) or family; may be repeated.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Episodes at once.")] = 2,
    suite: Annotated[
        bool, typer.Option("--suite", help="Our own targets, every mode, with controls.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="With --suite: the slice that the tests play.")
    ] = False,
    all_runtimes: Annotated[
        bool, typer.Option("--all-runtimes", help="With --suite: docker, then namespace.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="With --suite: keep what was found, and make the page of it.")
    ] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="With --suite: only cases that nothing is kept of.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0.0, help="With --suite: begin no more cases after so long.")
    ] = None,
    json: Json = False,
) -> None:
    """Play cheating agents on tasks and say whether any was paid.

    Without --suite: attacks that need no knowledge of a task, in the task's own mode.

    Exit codes: 0 as required, 1 some cheat was paid (or honest work was not), 3 some had no verdict.
    """
    if not suite and (fast or all_runtimes or write or missing or minutes is not None):
        raise UsageError("--fast, --all-runtimes, --write, --missing and --minutes go with --suite.")
    if suite and (tasks or catalogue):
        raise UsageError("--suite brings its own tasks: name none.")
    ids = tuple(attack or ())
    found: list[Finding] = []
    until = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
    for name in ("docker", "namespace") if all_runtimes else (runtime,):
        with closing(open_runtime(name)) as maker:
            maker.check()
            cases = _cases(tasks, catalogue, ids, suite=suite, fast=fast)
            if missing:
                cases = _not_kept(cases, maker.name)
            for batch in _batches(cases, 4 * concurrency):
                if time.monotonic() < until:
                    new = _played(batch, maker, concurrency)
                    found += new
                    if (
                        write
                    ):  # whatever came of it, and at once: a run that is cut short has kept what it played
                        attack_page.keep(installed_suite(), new)
    if write:
        say(f"kept: {attack_page.results_file(installed_suite())}")
    bad = [finding for finding in found if not _is_good(finding, suite=suite)]
    if json:
        show_json({"played": len(found), "bad": len(bad), "findings": [one.as_object() for one in found]})
    else:
        _show(found, bad)
    broken = any(finding.result == "broken" for finding in bad)
    lost = any(finding.result != "broken" for finding in bad)
    raise typer.Exit(FAILED if lost else BROKEN if broken else PASSED)


def _cases(
    names: list[str] | None, catalogue: Path | None, ids: tuple[str, ...], *, suite: bool, fast: bool
) -> list[Case]:
    known = installed_suite()
    if suite:
        return known.cases(fast=fast, ids=ids)
    tasks = [task for name in names or () for task in _tasks_at(name)] if names else chosen(None, catalogue)
    return [case for task in tasks for case in generic_cases(task, known.attacks, ids=ids)]


def _not_kept(cases: list[Case], runtime: str) -> list[Case]:
    known = {finding.key for finding in attack_page.kept(installed_suite())}
    return [
        case for case in cases if (case.attack.id, case.target, case.mode, runtime, case.control) not in known
    ]


def _batches(cases: list[Case], size: int) -> Iterator[list[Case]]:
    for at in range(0, len(cases), size):
        yield cases[at : at + size]


def _tasks_at(name: str) -> list[Task]:
    """Return the task of that name, or the tasks of a folder of task folders."""
    path = Path(name).expanduser()
    if name.startswith((".", "/", "~")) and path.is_dir() and not (path / "task.yaml").is_file():
        return chosen(None, path)
    return chosen([name])


def _played(cases: list[Case], maker: Runtime, concurrency: int) -> list[Finding]:
    for recipe in dict.fromkeys(case.task.image for case in cases):
        ready_image(maker, recipe)

    def tell(one: Finding) -> None:
        said = f"{one.result:10} {one.row:4}{one.attack} on {one.target}, {one.mode}, {one.runtime}"
        say(f"{said}{', after honest work' if one.control else ''}: {one.status} {one.reason}")

    return list(play_all(cases, maker, concurrency=concurrency, progress=tell))


def _is_good(finding: Finding, *, suite: bool) -> bool:
    """On users' tasks nothing that is paid is good, flagged or not."""
    return finding.is_as_required and (suite or finding.result != "flagged")


def _show(found: list[Finding], bad: list[Finding]) -> None:
    cells = [
        [one.target, one.mode, one.row, one.attack, "yes" if one.control else "", one.result, one.mechanism]
        for one in found
    ]
    show_table("", ["task", "mode", "row", "attack", "solved first", "outcome", "mechanism"], cells)
    counts = ", ".join(f"{count} {name}" for name, count in Counter(one.result for one in found).items())
    show(f"{len(found)} episodes: {counts or 'none'}", style="red" if bad else "green")
    for one in bad:
        flags = f" {list(one.integrity)}" if one.integrity else ""
        show(f"  {one.result}: {one.attack} on {one.target}: {one.mechanism}{flags}", style="red")
