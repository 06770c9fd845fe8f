"""The official harnesses and ours on the same cases: verdicts that must agree, and wall times side by side.

    tgym bench parity --out FILE

plays every case with the oracle, an agent that does nothing, and recorded keys, there and here. An upstream defect is
listed with its case; any other difference is an error of ours, and the exit code says so.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.evaluate import make_job
from benchmarks.parity import official
from benchmarks.parity.cases import AGENTS, CASES, FORMATS, Case, Format
from benchmarks.parity.official import Official, Said
from benchmarks.speed.clock import machine_facts
from terminal_gym.cli.report import say, show, show_table
from terminal_gym.rollout.engine import Bounds
from terminal_gym.rollout.job import Job, open_rollout
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.trajectory.record import Graded, Trajectory
from terminal_gym.trajectory.store import Run

VERSION = 1
RESULTS = Path(__file__).parents[1] / "results" / "parity.json"
_SUITES: dict[Format, str] = {"terminal-bench": "1.0", "harbor": "2.0"}


@dataclass(frozen=True)
class Ours:
    """One trial, as ours recorded it."""

    task: str
    agent: str
    said: Said  # by the format's own rules
    reward: float | None
    error: str
    strict: str  # our own verdict on the same episode
    seconds: float


@dataclass(frozen=True)
class Pair:
    """A trial there and here."""

    format: Format
    task: str
    agent: str
    official: Said
    official_error: str
    official_reward: float
    ours: Said
    ours_error: str
    ours_reward: float | None
    strict: str
    agree: bool
    defect: str  # of upstream, that explains why they do not; "" for none
    official_s: float
    ours_s: float

    @property
    def explained(self) -> bool:
        """Whether they agree, or differ as the case says that they do."""
        return self.agree or bool(self.defect)


def play_ours(
    format: Format, agent: str, runtime: Runtime, *, tasks: Path, keys: Path, work: Path, concurrency: int
) -> list[Ours]:
    """Play every task below `tasks` with ours, by the format's own rules."""
    jobs = _jobs(format, agent, tasks, keys)
    found = []
    for number, job in enumerate(jobs):
        folder = work / f"run-{number}"
        with open_rollout(job, folder, runtime, bounds=Bounds(concurrency)) as rollout:
            rollout.run()
        found += [_ours(played, agent) for played in Run(folder)]
    return sorted(found, key=lambda one: one.task)


def _jobs(format: Format, agent: str, tasks: Path, keys: Path) -> list[Job]:
    """One job; recorded keys are a task's own, so that they take one job each."""
    version = _SUITES[format]
    names = sorted(path.name for path in tasks.iterdir())
    if agent != "keys":
        return [make_job(version, tasks, only=names, agent=agent, attempts=1)]
    return [
        make_job(
            version,
            tasks / name,
            agent="scripted",
            attempts=1,
            agent_settings={"script": str(keys / f"{name}.json")},
        )
        for name in names
    ]


def _ours(played: Trajectory, agent: str) -> Ours:
    outcome = played.outcome
    graded: Graded | Any = outcome.parity or outcome
    strict = outcome.strict.status if outcome.strict else "none"
    task = played.task.rpartition("/")[2]
    took = round(played.seconds.get("total", float("nan")), 2)
    return Ours(task, agent, said(graded), graded.reward, graded.error, strict, took)


def said(graded: Graded) -> Said:
    """Return what a verdict amounts to in the words of an official result."""
    if graded.error or graded.status == "broken":
        return "error"
    return "passed" if graded.status == "passed" else "failed"


def paired(there: Iterable[Official], here: Iterable[Ours]) -> list[Pair]:
    """Return the trials that both have, each with its case's explanation where they differ."""
    known = {(one.task, one.agent): one for one in here}
    return [_pair(one, known[one.task, one.agent]) for one in there if (one.task, one.agent) in known]


def _pair(there: Official, here: Ours) -> Pair:
    case = official.case_of(there.format, there.task)
    agree = there.said == here.said and (there.reward or 0.0) == (here.reward or 0.0)
    explains = not agree and case.defect and case.ours.get(here.agent) == here.said
    return Pair(
        there.format, there.task, there.agent, there.said, there.error,
        there.reward or 0.0, here.said, here.error, here.reward, here.strict,
        agree, case.defect if explains else "", there.seconds, here.seconds,
    )  # fmt: skip


def compare(
    format: Format,
    agent: str,
    runtime: Runtime,
    *,
    root: Path,
    concurrency: int = 1,
    names: Sequence[str] | None = None,
) -> tuple[list[Pair], dict[str, float]]:
    """Play the cases of a format with one agent, there and here; returns the pairs, and how long each side took."""
    tasks, keys = official.lay(format, root, names)
    began = time.monotonic()
    there = official.play(
        format,
        agent,
        tasks=tasks,
        keys=keys,
        work=root / f"official-{format}-{agent}",
        concurrency=concurrency,
    )
    between = time.monotonic()
    here = play_ours(
        format,
        agent,
        runtime,
        tasks=tasks,
        keys=keys,
        work=root / f"ours-{format}-{agent}",
        concurrency=concurrency,
    )
    walls = {"official_s": round(between - began, 1), "ours_s": round(time.monotonic() - between, 1)}
    return paired(there, here), walls


def run_parity(
    format: Annotated[list[str] | None, typer.Option(help="terminal-bench or harbor; default: both.")] = None,
    agent: Annotated[list[str] | None, typer.Option(help="oracle, nop or keys; default: all.")] = None,
    case: Annotated[list[str] | None, typer.Option(help="Name of a case; default: all.")] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-n", help="Trials at once, there and here.")
    ] = 1,
    out: Annotated[
        Path, typer.Option(help="Raw results as JSON; what is there of other runs stays.")
    ] = RESULTS,
) -> None:
    """Play the cases with the official harnesses and with ours: verdicts must agree. Needs Docker.

    Exit codes: 0 they agree but for listed upstream defects, 1 they do not.
    """
    pairs: list[Pair] = []
    with (
        closing(open_runtime("docker")) as runtime,
        tempfile.TemporaryDirectory(prefix="tgym-parity-") as folder,
    ):
        runtime.check()
        for one in FORMATS:
            for who in AGENTS:
                if (not format or one in format) and (not agent or who in agent):
                    say(f"{one}: {who}")
                    found, walls = compare(
                        one, who, runtime, root=Path(folder), concurrency=concurrency, names=case
                    )
                    write(out, found, f"{one} {who} n={concurrency}", walls)
                    pairs += found
    show_table(
        "",
        ["format", "task", "agent", "official", "ours", "strict", "official s", "ours s"],
        list(map(_cells, pairs)),
    )
    bad = [pair for pair in pairs if not pair.explained]
    listed = sum(bool(pair.defect) for pair in pairs)
    show(f"{len(pairs)} trials, {len(bad)} differ, {listed} differ by listed upstream defects")
    raise typer.Exit(1 if bad else 0)


def _cells(pair: Pair) -> list[str]:
    mark = "" if pair.agree else " (upstream defect)" if pair.defect else " DIFFERS"
    cells = [pair.format, pair.task, pair.agent, pair.official, pair.ours + mark, pair.strict]
    return [*cells, f"{pair.official_s:.1f}", f"{pair.ours_s:.1f}"]


def write(path: Path, pairs: Sequence[Pair], what: str, walls: dict[str, float]) -> None:
    """Put these trials into the results file, in place of earlier ones of the same name."""
    known: dict[str, Any] = (
        json.loads(path.read_text("utf-8")) if path.is_file() else {"trials": [], "walls": {}}
    )
    names = {(pair.format, pair.task, pair.agent) for pair in pairs}
    kept = [one for one in known["trials"] if (one["format"], one["task"], one["agent"]) not in names]
    trials = sorted([*kept, *map(asdict, pairs)], key=lambda one: (one["format"], one["task"], one["agent"]))
    engine = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    told = {
        "version": VERSION,
        "harnesses": (Path(__file__).parent / "harness/requirements.txt").read_text().split("\n")[1:3],
        "docker": engine.stdout.strip(),
        "machine": machine_facts(),
        "walls": known["walls"] | {what: walls},
        "trials": trials,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def defects() -> list[Case]:
    """Return the cases that list an upstream defect."""
    return [case for format in FORMATS for case in CASES[format] if case.defect]
