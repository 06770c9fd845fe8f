"""`tgym bench parity`: plays every case with the official harnesses and with ours, batch by batch.

Every batch is played by one side and at once by the other, and is on record when it is done; a file that is there
already is gone on with. An upstream defect is listed with its case; any other difference is an error of ours, and the
exit code says so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.parity import record as records
from benchmarks.parity.cases import AGENTS, CASES, FORMATS
from benchmarks.parity.compare import Batch, play_both
from benchmarks.parity.record import RESULTS, Record
from terminal_gym.cli.report import BROKEN, FAILED, PASSED, say, show, show_table
from terminal_gym.errors import UnknownName
from terminal_gym.sandbox.base import open_runtime


def run_parity(
    format: Annotated[list[str] | None, typer.Option(help="terminal-bench or harbor; default: both.")] = None,
    agent: Annotated[list[str] | None, typer.Option(help="oracle, nop or keys; default: all.")] = None,
    case: Annotated[list[str] | None, typer.Option(help="Name of a case; default: all.")] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-n", min=1, help="Trials at once, there and here.")
    ] = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="Cases that a side plays before the other takes its turn.")
    ] = 5,
    minutes: Annotated[
        float, typer.Option(help="Begin no batch after so long, 0: none; call again to go on.")
    ] = 1e6,
    out: Annotated[
        Path, typer.Option(help="Results as JSON, a table beside it; what is on record stays.")
    ] = RESULTS,
) -> None:
    """Play the cases with the official harnesses and with ours: verdicts must agree. Needs Docker.

    Exit codes: 0 they agree but for listed upstream defects, 1 they do not, 3 trials are missing.
    """
    _check(format, FORMATS, "format")
    _check(agent, AGENTS, "agent")
    _check(case, [one.name for found in CASES.values() for one in found], "case")
    wanted = [
        one
        for name in FORMATS
        if name in (format or FORMATS)
        for one in CASES[name]
        if one.name in (case or [one.name])
    ]
    agents = [name for name in AGENTS if name in (agent or AGENTS)]
    record = records.read(out)
    left = records.missing(record, wanted, agents, size=batch)
    if left and minutes > 0:
        _play(left, record, out, concurrency=concurrency, minutes=minutes)
    shown = record.of(wanted, agents)
    show_table(
        "",
        ["format", "case", "agent", "official", "ours", "strict", "", "official s", "ours s"],
        list(map(records.cells, shown)),
    )
    bad = [pair for pair in shown if not pair.explained]
    gone = sum(len(one.cases) for one in records.missing(record, wanted, agents, size=batch))
    listed = sum(bool(pair.defect) for pair in shown)
    show(
        f"{len(shown)} trials, {len(bad)} differ, {listed} differ by listed upstream defects, {gone} are missing"
    )
    raise typer.Exit(FAILED if bad else BROKEN if gone else PASSED)


def _play(left: Sequence[Batch], record: Record, out: Path, *, concurrency: int, minutes: float) -> None:
    until = time.monotonic() + 60.0 * minutes
    with closing(open_runtime("docker")) as runtime:
        runtime.check()
        for one in left:
            if time.monotonic() > until:
                return
            say(f"{one.format}, {one.agent}: {', '.join(one.cases)}")
            with tempfile.TemporaryDirectory(prefix="tgym-parity-") as folder:
                record.add(*play_both(one, runtime, root=Path(folder), concurrency=concurrency))
            records.write(out, record)


def _check(given: list[str] | None, known: tuple[str, ...] | list[str], kind: str) -> None:
    for name in given or ():
        if name not in known:
            raise UnknownName(kind, name, known=sorted(known))
