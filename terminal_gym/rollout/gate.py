"""The validity gate of one task: the oracle passes, the no-op fails, the partial solution fails, each time.

The record is stored beside the task as `validity.json`, one entry for each runtime it was checked on:
`{"version": 1, "records": {"<runtime>": {…}}}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from terminal_gym.agents.agent import open_agent
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import StoreError
from terminal_gym.rollout.episode import run_episode
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Status, Trajectory

VERSION = 1
WANTED: dict[str, Status] = {"oracle": "passed", "nop": "failed", "partial": "failed"}


@dataclass(frozen=True)
class Attempt:
    """One episode of the gate."""

    agent: str
    attempt: int
    status: Status
    reason: str
    checks: dict[str, str]  # test id → outcome
    steps: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class ValidityRecord:
    """What the gate found; kept with the instance."""

    task: str
    task_hash: str
    runtime: str
    image: str
    image_digest: str
    substituted: str  # what stood in for an upstream base image, "" if nothing did
    trusted_hash: str  # of the trusted runtime that judged
    date: str  # ISO 8601
    valid: bool
    problems: tuple[str, ...]
    attempts: tuple[Attempt, ...]

    @property
    def is_broken(self) -> bool:
        """Whether some attempt had no verdict, so that nothing is known of the task."""
        return any(attempt.status == "broken" for attempt in self.attempts)

    @property
    def seconds(self) -> float:
        return sum(attempt.seconds["total"] for attempt in self.attempts)

    def as_object(self) -> dict[str, object]:
        """Return what is written as JSON."""
        return asdict(self)


def check_task(
    task: Task,
    *,
    runtime: str | Runtime,
    date: str,
    repeats: int = 3,
    failing: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> ValidityRecord:
    """Play every agent of the gate `repeats` times; returns what was found.

    Args:
        task: With a partial solution, or that part is skipped and reported.
        runtime: A runtime that holds the task's image, or its name.
        date: When, as it goes into the record.
        repeats: Times each agent plays, ≥ 1.
        failing: The same, for the agents that must fail; None: as often as the others.
        progress: Told of each attempt as it ends.
    """
    agents = [name for name in WANTED if name == "nop" or _has_solution(task, name)]
    attempts: list[Attempt] = []
    with TerminalEnv(task, runtime=runtime) as env:
        for name in agents:
            for k in range(repeats if failing is None or WANTED[name] == "passed" else failing):
                attempt = _attempt(run_episode(env, open_agent(name), attempt=k))
                attempts.append(attempt)
                progress(f"{task.ref}: {name} {k}: {attempt.status} {attempt.reason}")
        image, verdict = env.image, env.verdict
        runtime_name = env.runtime_name
    problems = tuple(find_problems(attempts, wanted=[*WANTED]))
    return ValidityRecord(
        task=str(task.ref),
        task_hash=task.content_hash(),
        runtime=runtime_name,
        image=task.image.name,
        image_digest=image.digest if image else "",
        substituted=image.substituted if image else "",
        trusted_hash=verdict.trusted_hash if verdict else "",
        date=date,
        valid=not problems,
        problems=problems,
        attempts=tuple(attempts),
    )


def find_problems(attempts: list[Attempt], *, wanted: list[str]) -> Iterator[str]:
    """Yield why the attempts do not show a sound task; nothing where they do."""
    for name in wanted:
        mine = [attempt for attempt in attempts if attempt.agent == name]
        if not mine:
            yield f"there is no {'solution' if name == 'oracle' else 'partial solution'}"
        for attempt in mine:
            if attempt.status != WANTED[name]:
                why = f" ({attempt.reason})" if attempt.reason else ""
                yield f"{name} {attempt.attempt} was {attempt.status}{why}, not {WANTED[name]}"
            elif attempt.checks != mine[0].checks:
                yield f"{name} {attempt.attempt} had other checks than attempt 0"
            elif attempt.status == "failed" and not attempt.checks:
                yield f"{name} {attempt.attempt} failed without a check: {attempt.reason}"


def store(record: ValidityRecord, folder: Path) -> Path:
    """Write `folder/validity.json`; entries of other runtimes for the same task hash stay.

    Raises:
        StoreError: The folder cannot be written.
    """
    path = folder / "validity.json"
    records = {
        name: entry for name, entry in _known(path).items() if entry.get("task_hash") == record.task_hash
    }
    records[record.runtime] = record.as_object()
    body = {"version": VERSION, "records": dict(sorted(records.items()))}
    try:
        path.write_text(json.dumps(body, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}. Use --no-write.") from error
    return path


def _known(path: Path) -> dict[str, dict[str, object]]:
    """Return the entries stored so far; what cannot be read is replaced."""
    try:
        body = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(body["records"]) if isinstance(body, dict) and body.get("version") == VERSION else {}


def _has_solution(task: Task, agent: str) -> bool:
    return task.has_solution if agent == "oracle" else task.partial is not None


def _attempt(played: Trajectory) -> Attempt:
    return Attempt(
        agent=played.agent,
        attempt=played.attempt,
        status=played.outcome.status,
        reason=played.outcome.reason,
        checks={check.id: check.outcome for check in played.outcome.checks},
        steps=len(played.steps),
        seconds={phase: round(value, 3) for phase, value in played.seconds.items()},
    )
