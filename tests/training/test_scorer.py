"""The quality model: fitted from a pipeline's tables, measured on what it did not see, read by the pipeline."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy
import pytest
from kit.tiny_model import make_tiny
from typer.testing import CliRunner

from env_registry.pipeline.facts import TextFile
from env_registry.pipeline.features import FEATURES
from env_registry.pipeline.score import open_scorer
from env_registry.pipeline.stage import Row, Table
from terminal_gym.errors import BadSetting, ForgedRecord
from training.attempts import Attempts, read_attempts
from training.cli import app
from training.scorer import fit_linear, out_of_fold, repository_score, train
from training.scorer_metrics import measured

WORDS = {True: "def main(): return 0\n", False: "TODO FIXME TODO FIXME\n"}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Sixty repositories; those that build have a build file more often, and whole code."""
    rng = random.Random(7)
    score, build = Table(tmp_path, "score"), Table(tmp_path, "build")
    (tmp_path / "features.json").write_text(json.dumps(list(FEATURES)))
    at = list(FEATURES).index("repo_build")
    for number in range(60):
        built = number % 3 != 0
        folder = tmp_path / "sources" / str(number)
        folder.mkdir(parents=True)
        (folder / "a.py").write_text(WORDS[built])
        rows = [[rng.random() for _ in FEATURES] for _ in range(2)]
        for row in rows:
            row[at] = float(rng.random() < (0.9 if built else 0.2))
        cells = {"features": rows, "paths": ["a.py", "a.py"], "folder": f"sources/{number}"}
        score.append(Row(f"r{number}", True, cells=cells))
        build.append(Row(f"r{number}", built, "" if built else "build-failed"))
    score.append(Row("r60", True, cells=cells))
    build.append(Row("r60", False, "network"))  # says nothing of the code
    score.append(Row("r61", True, cells=cells))
    build.append(Row("r61", False, "no-build-system"))  # nothing was tried
    score.close()
    build.close()
    collect = Table(tmp_path, "collect")
    for number in range(20):  # the more stars, the less likely that it built
        collect.append(Row(f"r{number}", True, cells={"stars": 100 if number % 3 == 0 else number % 3}))
    collect.append(Row("r20", True))
    collect.close()
    return tmp_path


@pytest.mark.parametrize("always", [0.1, 1.0])
def test_a_feature_that_never_changes_is_left_as_it_is(always: float) -> None:
    rng = numpy.random.default_rng(0)
    sizes = rng.integers(1, 51, size=60)
    files = [numpy.column_stack([rng.random(n), numpy.full(n, always)]) for n in sizes]
    names, built = tuple(map(str, range(60))), numpy.arange(60) % 3 > 0
    told = fit_linear(Attempts(names, built, tuple(files), ((),) * 60, (Path(),) * 60))
    assert told["scale"][1] == 1.0  # type: ignore[index]
    assert told["weights"][1] == pytest.approx(0.0, abs=1e-6)  # type: ignore[index]
    assert numpy.isfinite(told["weights"] + told["mean"]).all()  # type: ignore[operator]


def test_a_scorer_tells_what_builds_and_is_read_by_the_pipeline(work: Path) -> None:
    out = work / "scorer.json"
    ran = CliRunner().invoke(
        app, ["scorer", str(work), "--out", str(out), "--plot", str(work / "a.png"), "--json"]
    )
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.output)
    assert (told["repositories"], told["built"], told["failed"]) == (60, 40, 20)
    assert told["auc"] > 0.8
    assert told["auc_95"][0] < told["auc"] < told["auc_95"][1]
    assert told["yield"][0]["by_score"] > told["yield"][0]["at_random"]
    assert told["yield"][-1]["by_score"] == pytest.approx(told["yield"][-1]["at_random"])
    assert told["stars"]["repositories"] == 20
    first = told["stars"]["yield"][2]
    assert first["by_stars"] == 0 < first["by_score"]
    assert (work / "a.png").stat().st_size > 1_000
    tried, model = read_attempts(work), open_scorer(out)
    here = repository_score(json.loads(out.read_text()), tried.features[0])
    there = numpy.mean(model.scores([], tried.features[0].tolist()))
    assert here == pytest.approx(float(there))


def test_the_score_is_compared_with_what_became_of_the_instances(work: Path) -> None:
    generate, accept, rate = (Table(work, stage) for stage in ("generate", "accept", "rate"))
    for number in range(30):
        for n in range(4):
            key, repository = f"r{number}-{n}", f"r{number}"
            generate.append(Row(key, True, cells={"repository": repository}))
            kept = n < (4 if number % 3 else 1)  # those that build have more good instances
            accept.append(Row(key, kept, "" if kept else "invalid"))
            if kept:
                rating = 1.0 + 2 * (number % 3 == 0) + n % 2  # and worse ratings
                rate.append(Row(key, True, cells={"repository": repository, "rating": rating}))
    rate.append(Row("r1-9", False, "bad-json", cells={"spent": {}}))
    for table in (generate, accept, rate):
        table.close()
    ran = CliRunner().invoke(
        app, ["scorer", str(work), "--out", str(work / "s.json"), "--plot", str(work / "a.png")]
    )
    assert ran.exit_code == 0, ran.output
    told = json.loads((work / "s.json.metrics.json").read_text())
    assert (told["acceptance"]["repositories"], told["acceptance"]["instances"]) == (30, 120)
    low, high = told["acceptance"]["spearman_95"]
    assert 0 < low < told["acceptance"]["spearman"] < high
    assert told["rated"]["spearman_95"][1] < 0
    assert "instances' ratings: -" in ran.output
    thresholds = [one["threshold"] for one in told["yield"]]
    assert thresholds == sorted(thresholds, reverse=True)


def test_what_does_not_vary_has_no_correlation(work: Path) -> None:
    tried = read_attempts(work)
    scores = out_of_fold(tried, folds=5, seed=0)
    told = measured(tried, scores, work=work, seed=0)
    assert (told["acceptance"], told["rated"]) == (None, None)
    generate, accept = Table(work, "generate"), Table(work, "accept")
    for number in range(30):
        generate.append(Row(f"r{number}-0", True, cells={"repository": f"r{number}"}))
        accept.append(Row(f"r{number}-0", True))
    generate.close()
    accept.close()
    told = measured(tried, scores, work=work, seed=0)
    assert told["acceptance"] == {"repositories": 30, "instances": 30, "spearman": None}


def test_labels_by_chance_give_no_auc(work: Path) -> None:
    tried = read_attempts(work)
    rng = numpy.random.default_rng(0)
    mixed = type(tried)(tried.names, rng.permutation(tried.built), tried.features, tried.paths, tried.folders)
    told = measured(mixed, out_of_fold(mixed, folds=5, seed=0), work=work, seed=0)
    assert told["auc_95"][0] < 0.5


def test_too_little_and_what_was_edited_are_refused(work: Path) -> None:
    table = work / "build.jsonl"
    whole = table.read_bytes()
    table.write_bytes(b"".join(whole.splitlines(keepends=True)[:12]))
    with pytest.raises(BadSetting, match="ten of each"):
        train(work, work / "a.json")
    table.write_bytes(whole.replace(b"build-failed", b"build-edited", 1))
    with pytest.raises(ForgedRecord):
        train(work, work / "a.json")
    table.write_bytes(whole)
    with pytest.raises(BadSetting, match="transformer with a base"):
        train(work, work / "a.json", kind="transformer")
    with pytest.raises(BadSetting, match="exists"):
        train(work, table)


def test_a_transformer_learns_the_same_from_the_texts(work: Path, tmp_path: Path) -> None:
    base, out = make_tiny(tmp_path / "base"), work / "scorer"
    told = train(
        work,
        out,
        kind="transformer",
        base=str(base),
        epochs=6,
        learning_rate=3e-3,
        tokens=64,
        seed=1,
        folds=4,
    )
    assert told["auc"] > 0.95
    model = open_scorer(out)
    files = [TextFile("a.py", WORDS[built], frozenset(), "utf-8") for built in (True, False)]
    good, bad = model.scores(files, [[], []])
    assert good > 0.5 > bad
