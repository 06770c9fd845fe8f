"""`tgym bench terminal-bench`: an agent at every task of a benchmark, k times, into a run folder."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import terminal_bench
from terminal_gym.cli.ready import RuntimeName
from terminal_gym.cli.report import complain, say, show
from terminal_gym.cli.rollout import INTERRUPTED, Progress, Settings, play_shown, read_settings
from terminal_gym.errors import BadSetting
from terminal_gym.rollout.engine import Bounds
from terminal_gym.rollout.job import Job, open_rollout
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.trajectory.store import Run

Names = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Shell pattern of task names.")]


def run_terminal_bench(
    version: Annotated[str, typer.Option(help="1.0, 2.0 or 2.1.")] = "",
    tasks: Annotated[Path | None, typer.Option(help="The folder of task folders, as released.")] = None,
    agent: Annotated[str, typer.Option(help="Who plays.")] = "terminus",
    model: Annotated[str, typer.Option(help="<kind>/<model>, e.g. openai/qwen2.5-coder.")] = "",
    attempts: Annotated[int, typer.Option("--attempts", "-k", help="At each task.")] = 5,
    out: Annotated[Path | None, typer.Option(help="The run folder, a new one.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run, as it was asked for.")] = None,
    task: Names = None,
    exclude: Names = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-n", help="Episodes at once.")] = 4,
    runtime: RuntimeName = "auto",
    seed: Annotated[int, typer.Option(help="From which each attempt's seed is derived.")] = 0,
    agent_setting: Settings = None,
    model_setting: Settings = None,
    agent_timeout_s: Annotated[
        float | None, typer.Option(help="OVERRIDES every task's own time for the agent; recorded.")
    ] = None,
    verifier_timeout_s: Annotated[
        float | None, typer.Option(help="OVERRIDES every task's own time for its tests; recorded.")
    ] = None,
    timeout_multiplier: Annotated[
        float | None, typer.Option(help="OVERRIDES: stretches both times; recorded.")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="OVERRIDES: a bound that no task has; recorded.")
    ] = None,
    grading: Annotated[
        str,
        typer.Option(
            help="Whose verdict is the reward; both are kept. Default: parity, strict for tasks with no test script."
        ),
    ] = "",
    network: Annotated[
        str, typer.Option(help="upstream: as the format gives it; task: as the folder says; none.")
    ] = "upstream",
    retry_broken: Annotated[bool, typer.Option("--retry-broken", help="Play broken attempts again.")] = False,
) -> None:
    """Play Terminal-Bench: k attempts at every task, each in a sandbox of its own, within each task's own time.

    Ctrl-C ends it cleanly, --resume goes on. What came of it: tgym bench report RUN.

    Exit codes: 0 every attempt has a verdict, 2 usage, 3 some are broken, 130 interrupted.
    """
    if (resume is None) == (out is None) or (resume is None and (tasks is None or not version)):
        raise typer.BadParameter("give --version, --tasks DIR and --out RUN, or only --resume RUN")
    if resume is not None:
        job = Job.from_run(Run(resume))
        if not (job.labels or {}).get("benchmark"):
            raise BadSetting(f"{resume} is no benchmark run. Go on with: tgym rollout --resume {resume}")
    else:
        assert tasks is not None
        times = {
            "agent_s": agent_timeout_s,
            "verifier_s": verifier_timeout_s,
            "multiplier": timeout_multiplier,
        }
        job = make_job(
            version,
            tasks,
            agent=agent,
            attempts=attempts,
            model=model,
            agent_settings=read_settings(agent_setting),
            model_settings=read_settings(model_setting),
            seed=seed,
            max_steps=max_steps,
            grading=grading,
            network=network,
            only=task or (),
            without=exclude or (),
            override={name: value for name, value in times.items() if value is not None},
        )
    folder = resume or out
    assert folder is not None
    raise typer.Exit(_play(job, folder, concurrency=concurrency, runtime=runtime, retry_broken=retry_broken))


def make_job(
    version: str,
    tasks: Path,
    *,
    only: tuple[str, ...] | list[str] = (),
    without: tuple[str, ...] | list[str] = (),
    override: dict[str, float] | None = None,
    **asked: object,
) -> Job:
    """Return the job of one evaluation; `asked` as `Job.of` takes it.

    Raises:
        UsageError: There is no such version, task or agent, or a number does not fit.
        BadTaskFormat: A task cannot be read.
    """
    of = terminal_bench.suite(version)
    refs = [str(path) for path in terminal_bench.folders(tasks, of, only=only, without=without)]
    given = {"network": "upstream"} | {name: value for name, value in asked.items() if value != ""}
    job = Job.of(refs, namespace=of.namespace, override=override or None, **given)  # type: ignore[arg-type]
    if "grading" not in given:
        judge_themselves = all(task.script is not None or task.steps for task in job.open_tasks().values())
        job = replace(job, grading="parity" if judge_themselves else "strict")
    return replace(job, labels=terminal_bench.labels(of, job))


def _play(job: Job, folder: Path, *, concurrency: int, runtime: str, retry_broken: bool) -> int:
    """Play what is left; returns the exit code."""
    announce(job)
    with closing(open_runtime(runtime)) as maker:
        maker.check()
        maker.reap()
        progress = Progress(json=False)
        bounds = Bounds(concurrency, max_steps=job.max_steps)
        with open_rollout(
            job, folder, maker, bounds=bounds, watcher=progress, retry_broken=retry_broken, log=say
        ) as ready:
            say(f"{len(ready.left)} of {ready.planned} attempts are left to play")
            interrupted = play_shown(ready, progress)
    rows = Run(folder).standing.values()
    broken = sum(row.status == "broken" for row in rows)
    show(
        f"{folder}: {len(rows)} of {len(job.tasks) * job.attempts} attempts on record, {broken} without a verdict"
    )
    if interrupted:
        say(f"interrupted; go on with: tgym bench terminal-bench --resume {folder}")
        return INTERRUPTED
    if broken:
        say(f"play them again with: tgym bench terminal-bench --resume {folder} --retry-broken")
    show(f"report: tgym bench report {folder}")
    return 3 if broken else 0


def announce(job: Job) -> None:
    """Say what is about to be played; an override is never silent."""
    told = dict(job.labels or {})
    own = replace(job, override=None).open_tasks()
    say(
        f"{told.get('benchmark')}: {len(own)} tasks x {job.attempts} attempts, task set {told.get('task_set', '')[:12]}"
    )
    say(f"graded by {job.grading}, network {job.network}")
    say(f"time for the agent: {terminal_bench.budgets(own)}, the tasks' own")
    if changes := overrides(job):
        complain(f"OVERRIDDEN: {', '.join(changes)}. No leaderboard takes such a score; the report says so.")


def overrides(job: Job) -> list[str]:
    """Return what this job does not leave to the tasks, in words."""
    words = {
        "agent_s": "{:g} s for the agent at every task",
        "verifier_s": "{:g} s for the tests of every task",
        "multiplier": "times stretched by {:g}",
    }
    said = [words[name].format(value) for name, value in (job.override or {}).items()]
    return said + ([f"at most {job.max_steps} steps"] if job.max_steps is not None else [])
