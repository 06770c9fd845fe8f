"""One chunk of the soak: a rollout of some hundred episodes, disturbed from outside, and what came of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.soak import machine
from benchmarks.soak.tasks import Case
from terminal_gym.errors import StoreError, UsageError
from terminal_gym.trajectory.store import Run

TGYM = Path(sys.executable).with_name("tgym")
_LOOK_S = 1.0
_DISTURBED_S = 4.0  # mean time between two sandboxes killed from outside
_LIVES_S = (5.0, 40.0)  # how long a rollout lives before it is killed


@dataclass(frozen=True)
class Weather:
    """What happens to a rollout from outside."""

    kills: int  # times that its process is killed, and gone on with
    sandboxes: bool  # whether its sandboxes are killed under it


QUIET = Weather(0, sandboxes=False)
WEATHERS = {
    "quiet": QUIET,
    "steady": QUIET,
    "killed": Weather(4, sandboxes=False),
    "sandboxes killed": Weather(0, sandboxes=True),
    "both": Weather(3, sandboxes=True),
}


@dataclass
class Sample:
    """A rollout process at one moment."""

    episodes: int
    memory_kb: int
    open_files: int
    threads: int


@dataclass
class Told:
    """What one chunk came to; JSON."""

    number: int
    weather: str
    episodes: int
    seconds: float = 0.0
    process_kills: int = 0
    sandbox_kills: int = 0
    lost: int = 0  # attempts that were on record before a kill, and were not after it
    doubled: int = 0  # attempts with more than one verdict
    unplayed: int = 0
    statuses: dict[str, dict[str, int]] = field(default_factory=dict)  # case → status → count
    wrong: list[str] = field(default_factory=list)  # verdicts that a case must not get
    broken: dict[str, int] = field(default_factory=dict)  # reason → count
    retried: int = 0
    left: dict[str, int] = field(default_factory=dict)  # kind → count, after the next start
    samples: list[Sample] = field(default_factory=list)  # of the longest-lived process
    owners: list[int] = field(default_factory=list)

    def as_object(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """What every chunk of a soak has in common."""

    state: Path
    runtime: str
    concurrency: int
    seed: int


def play(asked: Asked, number: int, cases: Mapping[str, Case], *, attempts: int, weather: str,
         say: Callable[[str], None]) -> Told:  # fmt: skip
    """Play one chunk to its end; returns what came of it."""
    chance = random.Random(f"{asked.seed} {number}")
    told = Told(number, weather, attempts * len(cases))
    folder, here = asked.state / "runs" / f"{number:04d}", machine.Machine(asked.runtime, scratch(asked))
    began, seen, storm = time.monotonic(), set[tuple[str, int]](), WEATHERS[weather]
    for life in range(storm.kills + 1):
        limit_s = chance.uniform(*_LIVES_S) if life < storm.kills else None
        _live(asked, folder, attempts, told, here, chance, storm, limit_s)
        known = _known(folder)
        told.lost += len(seen - known)
        seen = known
    told.seconds = round(time.monotonic() - began, 2)
    _reap(asked)
    told.left = here.left(set(told.owners))
    _judge(told, Run(folder), cases)
    came = f"{told.episodes} episodes in {told.seconds:.0f} s, {len(told.wrong)} wrong, left {told.left}"
    say(f"chunk {number} ({weather}): {came}")
    return told


def scratch(asked: Asked) -> Path:
    """TMPDIR of the rollouts."""
    place = asked.state / "tmp"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _live(asked: Asked, folder: Path, attempts: int, told: Told, here: machine.Machine, chance: random.Random,
          storm: Weather, limit_s: float | None) -> None:  # fmt: skip
    """Start or go on with the rollout; it ends, or is killed after `limit_s`."""
    new = [
        "rollout",
        asked.state / "manifests" / f"{told.number:04d}.jsonl",
        "--agent",
        "oracle",
        "--attempts",
        attempts,
        "--out",
        folder,
    ]
    words = ["rollout", "--resume", folder] if (folder / "run.json").exists() else new
    argv = [TGYM, *words, "--runtime", asked.runtime, "--concurrency", asked.concurrency, "--json"]
    log = (asked.state / "log.txt").open("ab")
    rollout = subprocess.Popen(list(map(str, argv)), env={**os.environ, "TMPDIR": str(here.scratch)},
                               stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # fmt: skip
    told.owners.append(rollout.pid)
    began, samples = time.monotonic(), list[Sample]()
    disturbed = began + chance.expovariate(1 / _DISTURBED_S)
    try:
        while rollout.poll() is None:
            now = time.monotonic()
            if limit_s is not None and now - began > limit_s:
                rollout.send_signal(signal.SIGKILL)
                told.process_kills += 1
                break
            if storm.sandboxes and now > disturbed:
                told.sandbox_kills += here.kill_a_sandbox(rollout.pid, chance)
                disturbed = now + chance.expovariate(1 / _DISTURBED_S)
            _sample(rollout.pid, folder, samples)
            try:
                rollout.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                continue
    except BaseException:
        rollout.kill()
        raise
    finally:
        rollout.wait()
        log.close()
    told.samples = max(told.samples, samples, key=len)


def _sample(pid: int, folder: Path, samples: list[Sample]) -> None:
    try:
        done = (folder / "index.jsonl").read_bytes().count(b"\n") if (folder / "index.jsonl").exists() else 0
        samples.append(Sample(done, machine.memory_kb(pid), machine.open_files(pid), machine.threads(pid)))
    except (OSError, ValueError):  # it has just ended
        pass


def _known(folder: Path) -> set[tuple[str, int]]:
    try:
        return set(Run(folder).standing)
    except (StoreError, UsageError):
        return set()  # killed before there was a run


def _reap(asked: Asked) -> None:
    """Start once more, as the next user does: what dead owners left goes now."""
    environment = {**os.environ, "TMPDIR": str(scratch(asked))}
    subprocess.run(
        [TGYM, "reap", "--runtime", asked.runtime], env=environment, check=True, capture_output=True
    )


def _judge(told: Told, run: Run, cases: Mapping[str, Case]) -> None:
    """Compare every verdict with the one its case must get."""
    reasons: Counter[str] = Counter()
    verdicts = Counter(row.key for row in run.rows if row.status != "broken")
    told.doubled = sum(count > 1 for count in verdicts.values())
    told.unplayed = told.episodes - len(run.standing)
    for row in run.standing.values():
        name = row.task.rpartition("/")[2]
        counts = told.statuses.setdefault(name, {})
        counts[row.status] = counts.get(row.status, 0) + 1
        if row.status == "broken":
            reasons[row.reason[:160]] += 1
            if row.reward is not None:
                told.wrong.append(f"{row.task} {row.attempt}: broken, with reward {row.reward}")
        elif row.status != cases[name].verdict:
            told.wrong.append(f"{row.task} {row.attempt}: {row.status} ({row.reason[:200]})")
    told.broken = dict(reasons.most_common(20))
    told.retried = sum(bool(run.read(row).failures) for row in run.standing.values())


def write(told: Told, place: Path) -> None:
    draft = place.with_suffix(".tmp")
    draft.write_text(json.dumps(told.as_object()), "utf-8")
    draft.replace(place)
