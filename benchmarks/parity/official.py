"""What the official harnesses say of the cases: their commands, and their result files read back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.parity import harness
from benchmarks.parity.cases import CASES, Case, Format, write, write_keys

Said = Literal["passed", "failed", "error"]
_LIMIT_S = 1800


@dataclass(frozen=True)
class Official:
    """One trial, as an official harness recorded it."""

    format: Format
    task: str
    agent: str
    said: Said
    reward: float | None  # as it counts there: 0 where there is none
    error: str  # failure mode, or type of exception; "" for a clean trial
    seconds: float  # start of the trial to its end, wall clock


def lay(format: Format, root: Path, names: Iterable[str] | None = None) -> tuple[Path, Path]:
    """Write the cases' folders and keys below `root`; returns (tasks, keys)."""
    wanted = None if names is None else set(names)
    tasks, keys = root / "tasks" / format, root / "keys" / format
    for case in CASES[format]:
        if wanted is None or case.name in wanted:
            write(case, tasks)
            write_keys(case, keys)
    return tasks, keys


def play(
    format: Format, agent: str, *, tasks: Path, keys: Path, work: Path, concurrency: int = 2
) -> list[Official]:
    """Play every task below `tasks` with the official harness of the format.

    Args:
        format: Whose harness.
        agent: oracle, nop or keys.
        tasks: A folder of task folders.
        keys: What the recorded-keys agent types.
        work: A new folder, which the harness writes into.
        concurrency: Trials at once.

    Raises:
        RuntimeError: It left no result; its output comes with it.
    """
    work.mkdir(parents=True)
    if format == "terminal-bench":
        argv = [
            "tb",
            "run",
            "--dataset-path",
            str(tasks),
            "--output-path",
            str(work / "runs"),
            "--run-id",
            "parity",
        ]
        # No `down --rmi all`: with the compose of trixie it hangs now and then against an older Engine.
        argv += ["--n-concurrent", str(concurrency), "--no-cleanup"]
        argv += ["--agent-import-path", "keys:TerminalBenchKeys"] if agent == "keys" else ["--agent", agent]
    else:
        argv = [
            "harbor",
            "run",
            "--path",
            str(tasks),
            "--jobs-dir",
            str(work / "jobs"),
            "--job-name",
            "parity",
        ]
        argv += ["--n-concurrent", str(concurrency), "--yes", "--quiet"]
        argv += ["--agent", "keys:HarborKeys" if agent == "keys" else agent]
    ran = harness.run(argv, work=work, tasks=tasks, keys=keys, timeout_s=_LIMIT_S)
    (work / "output.txt").write_text(ran.stdout + ran.stderr, "utf-8")
    found = (
        read_terminal_bench(work / "runs/parity", agent)
        if format == "terminal-bench"
        else read_harbor(work / "jobs/parity", agent)
    )
    if not found:
        raise RuntimeError(
            f"{argv[0]} left no result (exit {ran.returncode}):\n{(ran.stdout + ran.stderr)[-4000:]}"
        )
    return found


def read_terminal_bench(run: Path, agent: str) -> list[Official]:
    """Return what a run folder of terminal-bench says, by task."""
    found = []
    for path in sorted(run.glob("*/*/results.json")):
        told = json.loads(path.read_text("utf-8"))
        resolved, mode = told["is_resolved"], told["failure_mode"]
        said: Said = "error" if resolved is None else "passed" if resolved else "failed"
        error = "" if mode in ("unset", "none") else mode
        took = _between(told.get("trial_started_at"), told.get("trial_ended_at"))
        found.append(
            Official("terminal-bench", told["task_id"], agent, said, float(bool(resolved)), error, took)
        )
    return found


def read_harbor(job: Path, agent: str) -> list[Official]:
    """Return what a job folder of Harbor says, by task."""
    found = []
    for path in sorted(job.glob("*/result.json")):
        told = json.loads(path.read_text("utf-8"))
        rewards = (told.get("verifier_result") or {}).get("rewards") or {}
        reward = rewards.get("reward")
        error = (told.get("exception_info") or {}).get("exception_type", "")
        said: Said = "error" if reward is None else "passed" if reward == 1 else "failed"
        took = _between(told["started_at"], told["finished_at"])
        found.append(
            Official("harbor", told["task_name"].rpartition("/")[2], agent, said, reward or 0.0, error, took)
        )
    return sorted(found, key=lambda one: one.task)


def _between(start: Any, end: Any) -> float:
    if not (start and end):
        return float("nan")
    return round((_time(end) - _time(start)).total_seconds(), 2)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def case_of(format: Format, name: str) -> Case:
    """Return the case of that name."""
    return next(case for case in CASES[format] if case.name == name)
