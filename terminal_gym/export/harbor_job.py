"""Run folder → job folder of Harbor: `result.json` of job and trials, ATIF trajectories, reward files.

    config.json  result.json
    <task>__<7 signs>/  config.json  result.json  agent/{trajectory.json, recording.cast}  verifier/reward.{txt,json}

Rewards are the format's own verdicts where it has any, as Harbor's are; ours, and what Harbor has no field for, stand
in `agent_result.metadata`. `task_checksum` is our content hash, which is not the one that Harbor computes.

Source: Harbor 0.24, `models/trial/result.py` and `models/job/result.py`.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from terminal_gym.export.atif import as_atif
from terminal_gym.trajectory import asciicast
from terminal_gym.trajectory.metrics import Tally, pass_at
from terminal_gym.trajectory.record import Trajectory

_NAMESPACE = uuid.UUID(
    "6f1d1a57-6a0c-4d4f-8a2b-3f0e9d6f2c11"
)  # of the ids made here: the same run gives the same ids
_NAME = 32  # signs of a task's name that a trial's name keeps
_LATE = "AgentTimeoutError"


def write_job(settings: Mapping[str, Any], attempts: Iterable[Trajectory], folder: Path, *, name: str) -> int:
    """Write a job folder into `folder`, which exists; returns the number of trials.

    Args:
        settings: Of the run.
        attempts: To be written, one at a time.
        folder: A new one, empty.
        name: Of the job.
    """
    job_id = str(uuid.uuid5(_NAMESPACE, json.dumps(dict(settings), sort_keys=True)))
    refs = {ref.rstrip("/").rpartition("/")[2]: ref for ref in settings.get("tasks") or {}}
    trials = []
    for played in attempts:
        trial = as_trial(played, settings, job_id=job_id, refs=refs)
        trials.append(trial)
        _write_trial(played, trial, folder / trial["trial_name"])
    _dump(folder / "config.json", _job_config(settings, name))
    _dump(folder / "result.json", as_job(trials, job_id=job_id, planned=_planned(settings) or len(trials)))
    return len(trials)


def as_trial(
    played: Trajectory, settings: Mapping[str, Any], *, job_id: str, refs: Mapping[str, str]
) -> dict[str, Any]:
    """Return one attempt as Harbor's trial result.

    Args:
        played: The attempt.
        settings: Of its run.
        job_id: Of its job.
        refs: Task name → the task's folder, as the run was given it.
    """
    task = played.task.rpartition("/")[2]
    sign = hashlib.sha256(f"{job_id} {played.task} {played.attempt}".encode()).hexdigest()[:7]
    name = f"{task[:_NAME]}__{sign}"
    path = refs.get(task, task)
    graded = played.outcome.parity or played.outcome
    rewards = dict(graded.rewards) or ({} if graded.reward is None else {"reward": graded.reward})
    rewards = {} if graded.error else rewards  # an error there, which counts 0
    usage = played.usage
    return {
        "id": str(uuid.uuid5(_NAMESPACE, f"{job_id} {name}")),
        "task_name": task,
        "trial_name": name,
        "trial_uri": f"file:///{name}",
        "task_id": {"path": path},
        "source": (settings.get("labels") or {}).get("benchmark"),
        "task_checksum": played.task_hash,
        "config": _trial_config(settings, name, path, job_id),
        "agent_info": _agent(played),
        "agent_result": {
            "n_input_tokens": usage.prompt_tokens if played.turns else None,
            "n_cache_tokens": usage.cached_tokens if played.turns else None,
            "n_output_tokens": usage.completion_tokens if played.turns else None,
            "cost_usd": usage.cost_usd if played.turns else None,
            "metadata": {"terminal_gym": _beside(played)},
        },
        "verifier_result": {"rewards": rewards} if rewards else None,
        "exception_info": _exception(played),
        **_times(played),
    }


def _beside(played: Trajectory) -> dict[str, Any]:
    """Return what Harbor has no field for."""
    outcome = played.outcome
    strict = outcome.strict
    return {
        "attempt": played.attempt,
        "seed": played.seed,
        "status": outcome.status,
        "graded_by": outcome.grading,
        "strict": None if strict is None else {"status": strict.status, "reason": strict.reason},
        "notes": list(outcome.notes),
        "limit": played.limit,
        "runtime": played.runtime,
        "image_digest": played.image_digest,
        "versions": dict(played.versions),
    }


def _agent(played: Trajectory) -> dict[str, Any]:
    provider, slash, model = played.model.partition("/")
    info = {"name": model if slash else provider, "provider": provider if slash else None}
    return {
        "name": played.agent,
        "version": played.versions.get("prompts") or played.versions.get("terminal-gym", "unknown"),
        "model_info": info if played.model else None,
    }


def _exception(played: Trajectory) -> dict[str, Any] | None:
    """Return what kept the trial from a clean end, named as Harbor names it where it has a name."""
    graded = played.outcome.parity or played.outcome
    if graded.status == "broken" or graded.error:
        kind = graded.error or graded.reason.partition(":")[0].strip() or "TerminalGymError"
        said = graded.reason
    elif played.limit.endswith(" s"):
        kind, said = _LATE, f"Ended by {played.limit}."
    else:
        return None
    return {
        "exception_type": kind,
        "exception_message": said,
        "exception_traceback": "",
        "occurred_at": _ends(played)[-1],
    }


def _ends(played: Trajectory) -> list[str]:
    """Return when the episode began, and when start, agent and verdict ended."""
    moment = datetime.fromisoformat(played.began_at or "1970-01-01T00:00:00+00:00")
    found = [moment.isoformat()]
    for phase in ("reset", "agent", "verify"):
        moment += timedelta(seconds=played.seconds.get(phase, 0.0))
        found.append(moment.isoformat())
    return found


def _times(played: Trajectory) -> dict[str, Any]:
    began, started, acted, judged = _ends(played)

    def span(start: str, end: str) -> dict[str, str]:
        return {"started_at": start, "finished_at": end}

    return {
        **span(began, judged),
        "environment_setup": span(began, started),
        "agent_setup": span(started, started),
        "agent_execution": span(started, acted),
        "verifier": span(acted, judged),
    }


# ── the job ─────────────────────────────────────────────────────────────────────────────────────


def as_job(trials: Sequence[Mapping[str, Any]], *, job_id: str, planned: int) -> dict[str, Any]:
    """Return Harbor's job result of these trials; a missing reward counts 0 in its mean, as there."""
    evals: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        evals.setdefault(_eval_key(trial), []).append(trial)
    times = sorted(trial[name] for trial in trials for name in ("started_at", "finished_at"))
    first, last = (times[0], times[-1]) if times else ("1970-01-01T00:00:00+00:00",) * 2
    errors = [trial for trial in trials if trial["exception_info"]]
    return {
        "id": job_id,
        "started_at": first,
        "updated_at": last,
        "finished_at": last if len(trials) >= planned else None,
        "n_total_trials": planned,
        "stats": {
            "n_completed_trials": len(trials),
            "n_errored_trials": len(errors),
            "n_running_trials": 0,
            "n_pending_trials": max(0, planned - len(trials)),
            "n_cancelled_trials": 0,
            "n_retries": 0,
            "evals": {key: _eval(group) for key, group in evals.items()},
            **{
                name: _total(trials, name)
                for name in ("n_input_tokens", "n_cache_tokens", "n_output_tokens", "cost_usd")
            },
        },
    }


def _eval_key(trial: Mapping[str, Any]) -> str:
    info = trial["agent_info"]
    model = [info["model_info"]["name"]] if info["model_info"] else []
    return "__".join([info["name"], *model, trial["source"] or "adhoc"])


def _eval(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rewards: dict[str, dict[str, list[str]]] = {}
    exceptions: dict[str, list[str]] = {}
    values, binary = [], True
    tasks: dict[str, list[bool]] = {}
    for trial in trials:
        found = (trial["verifier_result"] or {}).get("rewards") or {}
        for key, value in found.items():
            rewards.setdefault(key, {}).setdefault(str(float(value)), []).append(trial["trial_name"])
        if trial["exception_info"]:
            exceptions.setdefault(trial["exception_info"]["exception_type"], []).append(trial["trial_name"])
        reward = float(found.get("reward", 0.0))
        values.append(reward)
        binary &= reward in (0.0, 1.0) and len(found) <= 1
        tasks.setdefault(trial["task_name"], []).append(reward == 1.0)
    judged = sum(trial["verifier_result"] is not None for trial in trials)
    return {
        "n_trials": judged,
        "n_errors": sum(map(len, exceptions.values())),
        "metrics": [{"mean": sum(values) / len(values)}],
        "pass_at_k": _pass_at_ks(tasks) if binary else {},
        "reward_stats": rewards,
        "exception_stats": exceptions,
    }


def _pass_at_ks(tasks: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Return pass@k for the k that Harbor reports: powers of two and multiples of five, from 2."""
    tallies = {task: Tally(passed=sum(w), failed=len(w) - sum(w)) for task, w in tasks.items()}
    most = min(len(won) for won in tasks.values())
    ks = [k for k in range(2, most + 1) if k & (k - 1) == 0 or k % 5 == 0]
    return {str(k): value for k in ks if (value := pass_at(k, tallies)) is not None}


def _total(trials: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [value for trial in trials if (value := trial["agent_result"][name]) is not None]
    return sum(known) if known else None


# ── settings ────────────────────────────────────────────────────────────────────────────────────


def _planned(settings: Mapping[str, Any]) -> int:
    return len(settings.get("tasks") or ()) * int(settings.get("attempts") or 0)


def _agent_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    changed = settings.get("override") or {}
    found = {"name": settings.get("agent"), "kwargs": dict(settings.get("agent_settings") or {})}
    found |= {"model_name": settings["model"]} if settings.get("model") else {}
    return found | ({"override_timeout_sec": changed["agent_s"]} if "agent_s" in changed else {})


def _trial_config(settings: Mapping[str, Any], name: str, path: str, job_id: str) -> dict[str, Any]:
    changed = settings.get("override") or {}
    verifier = {"override_timeout_sec": changed["verifier_s"]} if "verifier_s" in changed else {}
    return {
        "task": {"path": path, "source": (settings.get("labels") or {}).get("benchmark")},
        "trial_name": name,
        "trials_dir": ".",
        "timeout_multiplier": changed.get("multiplier", 1.0),
        "agent": _agent_config(settings),
        "verifier": verifier,
        "job_id": job_id,
    }


def _job_config(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {
        "job_name": name,
        "jobs_dir": "..",
        "n_attempts": settings.get("attempts", 1),
        "timeout_multiplier": (settings.get("override") or {}).get("multiplier", 1.0),
        "agents": [_agent_config(settings)],
        "tasks": [{"path": ref} for ref in settings.get("tasks") or {}],
    }


# ── files ───────────────────────────────────────────────────────────────────────────────────────


def _write_trial(played: Trajectory, trial: Mapping[str, Any], folder: Path) -> None:
    agent, verifier = folder / "agent", folder / "verifier"
    for place in (agent, verifier):
        place.mkdir(parents=True)
    _dump(folder / "config.json", trial["config"])
    _dump(folder / "result.json", trial)
    if played.steps:
        _dump(agent / "trajectory.json", as_atif(played))
    if played.frames:
        asciicast.write(
            agent / "recording.cast", played.frames, rows=played.rows, cols=played.cols, title=played.task
        )
    rewards = (trial["verifier_result"] or {}).get("rewards") or {}
    if list(rewards) == ["reward"]:
        (verifier / "reward.txt").write_text(f"{rewards['reward']:g}\n", "ascii")
    elif rewards:
        _dump(verifier / "reward.json", rewards)


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=True, indent=1, allow_nan=False) + "\n", "ascii")
