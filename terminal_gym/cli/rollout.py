"""`tgym rollout`: many episodes into a run folder, resumable."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table

from terminal_gym.cli.ready import RuntimeName
from terminal_gym.cli.report import say, show, show_json
from terminal_gym.errors import BadSetting
from terminal_gym.rollout.plan import Attempt
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.catalogue import installed
from terminal_gym.tasks.manifest import open_manifest
from terminal_gym.trajectory.metrics import Tally, bands, by_task, funnel, pass_at_ks, tally
from terminal_gym.trajectory.store import Row, Run

if TYPE_CHECKING:
    from terminal_gym.rollout.job import Elsewhere

INTERRUPTED = 130  # as a shell says of a command that Ctrl-C ended
_EVERY_S = 10.0  # a line of progress where no person looks
Settings = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setting of it; may be given more than once.")
]


def rollout(
    manifest: Annotated[
        str, typer.Argument(help="A manifest file, a task, or 'all': the installed catalogue.")
    ] = "",
    agent: Annotated[str, typer.Option(help="Who plays.")] = "oracle",
    model: Annotated[str, typer.Option(help="<kind>/<model>, e.g. openai/qwen2.5-coder.")] = "",
    attempts: Annotated[int, typer.Option(help="At each task.")] = 1,
    concurrency: Annotated[int, typer.Option(help="Episodes at once.")] = 4,
    out: Annotated[Path | None, typer.Option(help="The run folder, a new one.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run folder, as it was asked for.")
    ] = None,
    runtime: RuntimeName = "auto",
    docker_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="An Engine's address; given more than once, they share the episodes."
        ),
    ] = None,
    cluster: Annotated[
        str, typer.Option(metavar="ADDRESS", help="A Ray cluster: ray://HOST:PORT, HOST:PORT, or auto.")
    ] = "",
    mirror: Annotated[
        str, typer.Option(metavar="HOST[:PORT][/PATH]", help="A registry that is asked for images first.")
    ] = "",
    seed: Annotated[int | None, typer.Option(help="From which each attempt's seed is derived.")] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Of each episode, beside the task's own limit.")
    ] = None,
    agent_setting: Settings = None,
    model_setting: Settings = None,
    starts: Annotated[int, typer.Option(help="Sandboxes that start at once.")] = 2,
    verifications: Annotated[int, typer.Option(help="Verdicts at once.")] = 2,
    images: Annotated[
        int, typer.Option(min=1, max=16, help="Images made or pulled at once, and how far ahead.")
    ] = 4,
    image_quota_gb: Annotated[
        float | None, typer.Option(help="That images made in this run may take.")
    ] = None,
    disk_floor_gb: Annotated[float, typer.Option(help="To be left free where images are kept.")] = 0.0,
    grading: Annotated[
        str,
        typer.Option(help="Whose verdict is the reward: strict, or parity (the task format's own rules)."),
    ] = "strict",
    network: Annotated[
        str, typer.Option(help="task: as its folder says; upstream: as its format gives it; none.")
    ] = "task",
    retry_broken: Annotated[bool, typer.Option("--retry-broken", help="Play broken attempts again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")] = False,
) -> None:
    """Play attempts at many tasks and keep every trajectory. Ctrl-C ends it cleanly; --resume goes on.

    Exit codes: 0 every attempt has a verdict, 2 usage, 3 some are broken, 130 interrupted.
    """
    # Here, not above: other commands need neither environments nor models.
    from terminal_gym.rollout.engine import Bounds
    from terminal_gym.rollout.job import Job, open_rollout

    if (resume is None) == (out is None) or (resume is None) == (not manifest):
        raise typer.BadParameter("give MANIFEST and --out RUN, or only --resume RUN")
    if resume is not None:
        job = Job.from_run(Run(resume))
    else:
        settings = {
            "agent_settings": read_settings(agent_setting),
            "model_settings": read_settings(model_setting),
            "seed": seed,
            "max_steps": max_steps,
            "grading": grading,
            "network": network,
        }
        job = Job.of(_refs(manifest), agent=agent, attempts=attempts, model=model, **settings)
    bounds = Bounds(
        concurrency,
        starts,
        verifications,
        max_steps=job.max_steps,
        image_quota_bytes=None if image_quota_gb is None else int(image_quota_gb * 1e9),
        disk_floor_bytes=int(disk_floor_gb * 1e9),
        images=images,
    )
    folder = resume or out
    assert folder is not None
    with _where(runtime, docker_host or [], cluster, mirror) as where:
        progress = Progress(json=json)
        with open_rollout(
            job,
            folder,
            where,
            bounds=bounds,
            watcher=progress,
            retry_broken=retry_broken,
            log=say,
        ) as ready:
            interrupted = play_shown(ready, progress)
    run = Run(folder)
    report(run, planned=len(job.tasks) * job.attempts, json=json)
    if interrupted:
        say(f"interrupted; go on with: tgym rollout --resume {folder}")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(3 if any(row.status == "broken" for row in run.standing.values()) else 0)


@contextmanager
def _where(
    runtime: str, hosts: list[str], cluster: str, mirror: str
) -> Iterator[Runtime | Mapping[str, Runtime] | Elsewhere]:
    """Lend what episodes are played on.

    Raises:
        RuntimeUnavailable: It, or one of several, does not answer.
    """
    settings = {"mirror": mirror} if mirror else {}
    if cluster:
        if hosts:
            raise typer.BadParameter("give --docker-host or --cluster; a cluster's nodes use their own")
        from terminal_gym.rollout.cluster import nodes

        with redirect_stdout(sys.stderr):  # Ray prints its news to stdout, which is the report's
            yield nodes(cluster, runtime=runtime, settings=settings)
        return
    if (hosts or mirror) and runtime not in ("auto", "docker", "podman"):
        raise typer.BadParameter(f"--docker-host and --mirror go with docker or podman, not with {runtime}")
    kind = "docker" if (hosts or mirror) and runtime == "auto" else runtime
    with ExitStack() as stack:
        named = {
            host: stack.enter_context(closing(open_runtime(kind, address=host, **settings)))
            for host in dict.fromkeys(hosts)
        } or {"": stack.enter_context(closing(open_runtime(kind, **settings)))}
        for maker in named.values():
            maker.check()
            maker.reap()
        yield named if len(named) > 1 else next(iter(named.values()))


# ── what was asked for ──────────────────────────────────────────────────────────────────────────


def _refs(manifest: str) -> tuple[str, ...]:
    if manifest == "all":
        return tuple(ref for catalogue in installed() for ref in catalogue.rows)
    path = Path(manifest)
    return open_manifest(path).refs if path.is_file() else (manifest,)


def read_settings(settings: list[str] | None) -> dict[str, Any]:
    """Return KEY=VALUE texts as a mapping; values are read as YAML, so that 0.7 is a number."""
    read: dict[str, Any] = {}
    for text in settings or ():
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise BadSetting(f"{text!r} is no setting. Write KEY=VALUE.")
        if "key" in key and "env" not in key:
            raise BadSetting(f"{key!r} would be stored with the run. Put keys into the environment.")
        try:
            read[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadSetting(f"{text!r}: the value is not YAML: {error}") from error
    return read


# ── while it runs ───────────────────────────────────────────────────────────────────────────────


class Progress:
    """Counts what happens, and shows it: a live table where a person looks, else a line now and then."""

    def __init__(self, *, json: bool):
        self._mutex = threading.Lock()
        self._rows: list[Row] = []
        self._running, self._retries = 0, 0
        self._began = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._is_live = self._console.is_terminal and not json
        self._next_line_s = _EVERY_S
        self.left = 0

    def started(self, attempt: Attempt) -> None:
        with self._mutex:
            self._running += 1

    def retried(self, attempt: Attempt, reason: str) -> None:
        with self._mutex:
            self._retries += 1
            self._running -= 1
        say(f"again: {attempt.task} {attempt.k}: {reason[:200]}")

    def ended(self, row: Row) -> None:
        with self._mutex:
            self._rows.append(row)
            self._running = max(0, self._running - 1)
            now = time.monotonic() - self._began
            due = not self._is_live and now >= self._next_line_s
            if due:
                self._next_line_s = now + _EVERY_S
        if due:
            say(self._line())

    @contextmanager
    def shown(self, left: int) -> Iterator[None]:
        """Show it while the block runs."""
        self.left = left
        if not self._is_live:
            yield
            return
        with Live(get_renderable=self._table, console=self._console, refresh_per_second=4, transient=True):
            yield

    def _facts(self) -> list[tuple[str, str]]:
        with self._mutex:
            told, running, retries = tally(self._rows), self._running, self._retries
        took = time.monotonic() - self._began
        eta = took / told.attempts * (self.left - told.attempts) if told.attempts else float("nan")
        return [
            ("ended", f"{told.attempts} of {self.left}"),
            ("running", str(running)),
            ("solved", rate(told)),
            ("broken", str(told.broken)),
            ("retries", str(retries)),
            ("tokens", f"{told.prompt_tokens:,} in, {told.completion_tokens:,} out"),
            ("cost", f"${told.cost_usd:.2f}"),
            ("left", "?" if eta != eta else f"{eta / 60:.1f} min"),
        ]

    def _line(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._facts())

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, value in self._facts():
            table.add_row(name, value)
        return table


class Stoppable(Protocol):
    """What Ctrl-C asks of a rollout; `terminal_gym.rollout.job.Rollout` is one."""

    left: tuple[Attempt, ...]

    def run(self) -> None: ...

    def finish(self) -> None: ...

    def abort(self) -> None: ...


def play_shown(ready: Stoppable, progress: Progress) -> bool:
    """Run a rollout and show how it goes; returns whether Ctrl-C ended it.

    The first lets running episodes end, the second removes them.
    """
    pressed = 0

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            say("stopping: running episodes go on to their end; press Ctrl-C again to drop them")
            ready.finish()
        else:
            threading.Thread(target=ready.abort, daemon=True).start()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        with progress.shown(len(ready.left)):
            ready.run()
    finally:
        signal.signal(signal.SIGINT, before)
    return pressed > 0


# ── what came of it ─────────────────────────────────────────────────────────────────────────────


def report(run: Run, *, planned: int, json: bool) -> None:
    """Print what a run amounts to."""
    rows = list(run.standing.values())
    tasks, told = by_task(rows), tally(rows)
    if json:
        show_json(
            {
                "run": str(run.folder),
                **funnel(planned, rows),
                "solve_rate": told.solve_rate,
                "interval": told.interval,
                "pass_at_k": {str(k): value for k, value in pass_at_ks(tasks).items()},
                "bands": bands(tasks),
                "tokens": {"prompt": told.prompt_tokens, "completion": told.completion_tokens},
                "cost_usd": told.cost_usd,
                "tasks": {task: _counts(one) for task, one in tasks.items()},
            }
        )
        return
    show(" → ".join(f"{count} {stage}" for stage, count in list(funnel(planned, rows).items())[:4]))
    if told.broken:
        show(f"{told.broken} broken: no verdict, counted neither way", style="yellow")
    if told.interval is not None:
        low, high = told.interval
        show(f"solve rate {told.solve_rate:.3f} (95 %: {low:.3f} to {high:.3f})")
    if ks := pass_at_ks(tasks):
        show(", ".join(f"pass@{k} {value:.3f}" for k, value in ks.items()))
    show(", ".join(f"{count} {band}" for band, count in bands(tasks).items() if count))


def _counts(one: Tally) -> dict[str, int]:
    return {"attempts": one.attempts, "passed": one.passed, "failed": one.failed, "broken": one.broken}


def rate(one: Tally) -> str:
    """Return how many of the judged passed, in words."""
    return f"{one.passed} of {one.judged}" if one.judged else "none judged"
