"""What `tgym bench parity` keeps: every trial there and here, and the wall times of every batch. JSON, and a table."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.parity.cases import FORMATS, Case, Format, digest
from benchmarks.parity.compare import Batch, Pair, Walls
from benchmarks.speed.clock import machine_facts
from terminal_gym.errors import BadSetting

VERSION = 2
RESULTS = Path(__file__).parents[1] / "results" / "parity.json"
_REQUIREMENTS = Path(__file__).parent / "harness/requirements.txt"


@dataclass
class Record:
    """The trials and batches of one file, in the order in which they were played."""

    pairs: list[Pair] = field(default_factory=list)
    walls: list[Walls] = field(default_factory=list)

    def holds(self, case: Case, agent: str) -> bool:
        """Whether this trial is there, of the case as it is now."""
        return bool(self.of([case], [agent]))

    def of(self, cases: Iterable[Case], agents: Iterable[str]) -> list[Pair]:
        """Return the trials of these cases, as they are now, by these agents."""
        wanted = {(case.format, case.name, agent, digest(case)) for case in cases for agent in agents}
        return [pair for pair in self.pairs if (pair.format, pair.task, pair.agent, pair.case) in wanted]

    def add(self, pairs: Sequence[Pair], walls: Walls) -> None:
        """Put a batch in; trials of the same name are replaced."""
        names = {(pair.format, pair.task, pair.agent) for pair in pairs}
        self.pairs = [one for one in self.pairs if (one.format, one.task, one.agent) not in names]
        self.pairs += pairs
        self.walls.append(walls)


def read(path: Path) -> Record:
    """Return what the file holds; an empty record where there is none.

    Raises:
        BadSetting: It was written by another version.
    """
    if not path.is_file():
        return Record()
    told = json.loads(path.read_text("utf-8"))
    if told.get("version") != VERSION:
        raise BadSetting(f"{path} is of version {told.get('version')}, not {VERSION}. Move it away.")
    return Record([Pair(**one) for one in told["trials"]], [Walls(**one) for one in told["batches"]])


def write(path: Path, record: Record) -> None:
    """Write the file, and its table beside it as Markdown."""
    engine = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    told = {
        "version": VERSION,
        "harnesses": harnesses(),
        "docker": engine.stdout.strip(),
        "machine": machine_facts(),
        "batches": list(map(asdict, record.walls)),
        "trials": list(map(asdict, record.pairs)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    path.with_suffix(".md").write_text(as_markdown(record), "utf-8")


def harnesses() -> list[str]:
    """Return the official packages, with their versions."""
    return [line for line in _REQUIREMENTS.read_text("utf-8").splitlines() if "==" in line]


def missing(record: Record, cases: Iterable[Case], agents: Iterable[str], *, size: int) -> list[Batch]:
    """Return what is still to be played, in batches of `size`; the side that begins changes with each."""
    wanted = list(cases)
    found: list[Batch] = []
    for format in FORMATS:
        for agent in agents:
            left = [case.name for case in wanted if case.format == format and not record.holds(case, agent)]
            for at in range(0, len(left), size):
                found.append(
                    Batch(format, agent, tuple(left[at : at + size]), ours_first=len(found) % 2 == 1)
                )
    return found


def as_markdown(record: Record) -> str:
    """Return both tables: the wall times, and every trial."""
    differ = [pair for pair in record.pairs if not pair.agree]
    listed = sum(bool(pair.defect) for pair in differ)
    return "\n".join(
        [
            "# Parity with the official harnesses",
            "",
            f"{', '.join(harnesses())}; written by `tgym bench parity`.",
            "",
            f"{len(record.pairs)} trials: {len(record.pairs) - len(differ)} verdicts agree, {listed} differ by listed "
            f"upstream defects, {len(differ) - listed} differ otherwise.",
            "",
            "## Wall times",
            "",
            "Seconds from each side's command to its last result, summed over the batches; the sides took turns, and "
            "took turns at beginning.",
            "",
            *_table(
                ["format", "agent", "trials", "at once", "official", "ours", "ratio"],
                _wall_rows(record.walls),
            ),
            "",
            "## Trials",
            "",
            *_table(
                ["format", "case", "agent", "official", "ours", "strict", "", "official s", "ours s"],
                map(cells, record.pairs),
            ),
            "",
        ]
    )


def _wall_rows(walls: Sequence[Walls]) -> list[list[str]]:
    groups: dict[tuple[Format, str, int], list[Walls]] = {}
    for one in walls:
        groups.setdefault((one.format, one.agent, one.concurrency), []).append(one)
    rows = []
    for (format, agent, concurrency), found in groups.items():
        there, here = sum(one.official_s for one in found), sum(one.ours_s for one in found)
        trials = sum(one.cases for one in found)
        rows.append(
            [
                format,
                agent,
                str(trials),
                str(concurrency),
                f"{there:.0f}",
                f"{here:.0f}",
                f"{there / here:.1f}",
            ]
        )
    return rows


def cells(pair: Pair) -> list[str]:
    """Return a trial's row."""
    mark = "" if pair.agree else "upstream defect" if pair.defect else "DIFFERS"
    there = f"{pair.official} ({pair.official_error})" if pair.official_error else pair.official
    here = f"{pair.ours} ({pair.ours_error})" if pair.ours_error else pair.ours
    seconds = [f"{pair.official_s:.1f}", f"{pair.ours_s:.1f}"]
    return [pair.format, pair.task, pair.agent, there, here, pair.strict, mark, *seconds]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
