"""Reads a job folder with Harbor's own models and prints what they hold. Runs inside the harness image."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harbor.models.job.config import JobConfig
from harbor.models.job.result import JobResult, JobStats
from harbor.models.trajectories import Trajectory
from harbor.models.trial.config import TrialConfig
from harbor.models.trial.result import TrialResult


def _sums(stats: JobStats) -> object:
    """Counts and names by agent, model and data set; metrics are made elsewhere, from a job's own settings."""
    told = {name: one.model_dump(exclude={"metrics", "pass_at_k"}) for name, one in stats.evals.items()}
    for one in told.values():
        for names in (
            *one["exception_stats"].values(),
            *(n for r in one["reward_stats"].values() for n in r.values()),
        ):
            names.sort()
    return told


def main(folder: Path) -> None:
    """Print one JSON object; raises what Harbor raises on a shape that is not its own."""
    JobConfig.model_validate_json((folder / "config.json").read_text())
    job = JobResult.model_validate_json((folder / "result.json").read_text())
    trials = [TrialResult.model_validate_json(p.read_text()) for p in sorted(folder.glob("*/result.json"))]
    for path in folder.glob("*/config.json"):
        TrialConfig.model_validate_json(path.read_text())
    trajectories = [
        Trajectory.model_validate_json(p.read_text()) for p in folder.glob("*/agent/trajectory.json")
    ]
    # Harbor's own sums over these trials must be ours.
    theirs = JobStats.from_trial_results(trials, n_total_trials=job.n_total_trials)
    ours, others = _sums(job.stats), _sums(theirs)
    print(
        json.dumps(
            {
                "trials": len(trials),
                "trajectories": len(trajectories),
                "same_evals": ours == others,
                "same_counts": job.stats.model_dump(exclude={"evals"})
                == theirs.model_dump(exclude={"evals"}),
                "pass_at_k": {name: stats.pass_at_k for name, stats in job.stats.evals.items()},
                "metrics": {name: stats.metrics for name, stats in job.stats.evals.items()},
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
