"""What a quality model is worth: does its score tell which repositories build, and whose instances are any good?

Everything is measured on repositories that the model did not see: discrimination, calibration, yield beside chance and
beside stars, and the correlation with what came later: instances accepted by the gate, and rated by a judge's model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from terminal_gym.trajectory.chain import read_lines
from training.attempts import Array, Attempts

_BOOTSTRAPS, _BINS = 2_000, 10


def measured(tried: Attempts, scores: Array, *, work: Path, seed: int) -> dict[str, Any]:
    """Return AUC with a bootstrap interval over repositories, calibration, yield, and what accepted instances say."""
    rng, count = numpy.random.default_rng(seed), len(scores)
    draws: list[float] = []
    while len(draws) < _BOOTSTRAPS:
        at = rng.integers(0, count, count)
        if 0 < tried.built[at].sum() < count:
            draws.append(_auc(tried.built[at], scores[at]))
    order = numpy.argsort(-scores, kind="stable")
    return {
        "repositories": count,
        "built": int(tried.built.sum()),
        "failed": int((~tried.built).sum()),
        "auc": _auc(tried.built, scores),
        "auc_95": [float(one) for one in numpy.percentile(draws, [2.5, 97.5])],
        "brier": float(numpy.mean((scores - tried.built) ** 2)),
        "calibration": _calibration(tried.built, scores),
        "yield": [
            {
                "builds": int(n),
                "threshold": float(scores[order[n - 1]]),
                "by_score": float(tried.built[order[:n]].mean()),
                "at_random": float(tried.built.mean()),
            }
            for n in sorted({max(1, count * tenth // 10) for tenth in range(1, 11)})
        ],
        "stars": _by_stars(tried, scores, work),
        "acceptance": _acceptance(tried, scores, work, rng),
        "rated": _rated(tried, scores, work, rng),
    }


def _by_stars(tried: Attempts, scores: Array, work: Path) -> dict[str, Any] | None:
    """Of the repositories with known stars: how many built among the first tenths by score and by stars; None: none."""
    path = work / "collect.jsonl"
    rows = read_lines(path).rows if path.exists() else []
    stars = {row["key"]: int(row["stars"]) for row in rows if "stars" in row}
    at = numpy.array([n for n, name in enumerate(tried.names) if name in stars], dtype=int)
    if not len(at):
        return None
    built = tried.built[at]
    by_score = built[numpy.argsort(-scores[at], kind="stable")]
    by_stars = built[numpy.argsort([-stars[tried.names[n]] for n in at], kind="stable")]
    counts = sorted({max(1, len(at) * tenth // 10) for tenth in range(1, 11)})
    return {
        "repositories": len(at),
        "yield": [
            {"builds": n, "by_score": float(by_score[:n].mean()), "by_stars": float(by_stars[:n].mean())}
            for n in counts
        ],
    }


def _auc(built: Array, scores: Array) -> float:
    """The share of (built, failed) pairs in the right order, ties by half: from ranks, for a bootstrap asks often."""
    from scipy.stats import rankdata

    ranks, count = rankdata(scores), int(built.sum())
    return float((ranks[built].sum() - count * (count + 1) / 2) / (count * (len(built) - count)))


def _calibration(built: Array, scores: Array) -> list[dict[str, float]]:
    bins = numpy.minimum((scores * _BINS).astype(int), _BINS - 1)
    return [
        {
            "score": float(scores[bins == at].mean()),
            "built": float(built[bins == at].mean()),
            "count": int((bins == at).sum()),
        }
        for at in sorted(set(bins.tolist()))
    ]


def _acceptance(tried: Attempts, scores: Array, work: Path, rng: Any) -> dict[str, Any] | None:
    """A repository's score and the share of its instances that were accepted; None: nothing was judged yet."""
    path = work / "accept.jsonl"
    if not path.exists():
        return None
    written = {
        row["key"]: row["repository"] for row in read_lines(work / "generate.jsonl").rows if row["kept"]
    }
    shares: dict[str, list[float]] = defaultdict(list)
    for row in read_lines(path).rows:
        shares[written.get(row["key"], "")].append(float(row["kept"]))
    return _correlated(tried, scores, shares, rng)


def _rated(tried: Attempts, scores: Array, work: Path, rng: Any) -> dict[str, Any] | None:
    """A repository's score and what a judge's model thought of its instances; None: none was asked."""
    path = work / "rate.jsonl"
    if not path.exists():
        return None
    ratings: dict[str, list[float]] = defaultdict(list)
    for row in read_lines(path).rows:
        if row["kept"]:
            ratings[str(row["repository"])].append(float(row["rating"]))
    return _correlated(tried, scores, ratings, rng)


def _correlated(
    tried: Attempts, scores: Array, values: Mapping[str, Sequence[float]], rng: Any
) -> dict[str, Any]:
    """Spearman's correlation over repositories, with a bootstrap interval; null where nothing varies, or under five."""
    from scipy.stats import spearmanr

    at = numpy.array([n for n, name in enumerate(tried.names) if name in values], dtype=int)
    means = numpy.array([float(numpy.mean(values[tried.names[n]])) for n in at])
    found = {"repositories": len(at), "instances": sum(len(values[tried.names[n]]) for n in at)}
    if len(at) < 5 or len(set(means.tolist())) < 2 or len(set(scores[at].tolist())) < 2:
        return {**found, "spearman": None}
    told, draws = spearmanr(scores[at], means), []
    for _ in range(_BOOTSTRAPS):
        some = rng.integers(0, len(at), len(at))
        if len(set(means[some].tolist())) > 1 and len(set(scores[at][some].tolist())) > 1:
            draws.append(float(spearmanr(scores[at][some], means[some]).statistic))
    interval = [float(one) for one in numpy.percentile(draws, [2.5, 97.5])]
    return {**found, "spearman": float(told.statistic), "spearman_95": interval, "p": float(told.pvalue)}


def draw(told: Mapping[str, Any], path: Path) -> None:
    """Draw the calibration and the yield curve into an image file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="grey", linestyle=":")
    left.plot(
        [one["score"] for one in told["calibration"]],
        [one["built"] for one in told["calibration"]],
        marker="o",
    )
    left.set(
        xlabel="score", ylabel="share that built", title=f"calibration, {told['repositories']} repositories"
    )
    right.plot(
        [one["builds"] for one in told["yield"]],
        [one["by_score"] for one in told["yield"]],
        marker="o",
        label="by score",
    )
    right.plot(
        [one["builds"] for one in told["yield"]],
        [one["at_random"] for one in told["yield"]],
        label="at random",
    )
    if stars := told["stars"]:
        for name, label in (("by_score", "by score, of those with stars"), ("by_stars", "by stars")):
            builds = [one["builds"] for one in stars["yield"]]
            right.plot(builds, [one[name] for one in stars["yield"]], linestyle="--", label=label)
    right.set(xlabel="builds attempted", ylabel="share that built", title="yield")
    right.legend()
    figure.savefig(path)
