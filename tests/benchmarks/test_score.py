"""Scores: endings, pass@k with intervals over tasks, paired comparisons; against numbers worked out another way."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.evaluations import LATE, beside, evaluation

from benchmarks import score
from benchmarks.score import Ending, Kind
from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.record import Graded, Outcome, Trajectory

RATES = {"easy": 1.0, "fair": 0.6, "hard": 0.2, "never": 0.0}


def endings(*groups: str) -> list[Ending]:
    """One task a group, one attempt a letter: p passed, f failed, t timed out, b broken, n not played."""
    kinds: dict[str, Kind] = {
        "p": "passed",
        "f": "failed",
        "t": "timed_out",
        "b": "broken",
        "n": "not_played",
    }
    return [
        Ending(f"task-{at}", k, kinds[letter])
        for at, group in enumerate(groups)
        for k, letter in enumerate(group)
    ]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text("pft", min_size=4, max_size=4), min_size=1, max_size=6))
def test_pass_at_k_is_the_mean_over_every_choice_of_k_attempts(groups: list[str]) -> None:
    found = score.score(endings(*groups), "strict")
    for k in range(1, 5):
        by_hand = mean(mean("p" in chosen for chosen in itertools.combinations(group, k)) for group in groups)
        assert found.pass_at[k][0] == pytest.approx(by_hand)
    assert found.rate == pytest.approx("".join(groups).count("p") / 4 / len(groups))


def test_a_set_with_missing_attempts_has_no_score_unless_told() -> None:
    given_ = endings("ppf", "pbn")
    with pytest.raises(
        BadSetting, match=r"2 attempts have no verdict.*1 broken, 1 not played.*--allow-missing"
    ):
        score.score(given_, "parity")
    told = score.score(given_, "parity", allow_missing=True)
    assert told.rate == pytest.approx((2 / 3 + 1) / 2)
    assert told.bounds == (3 / 6, 5 / 6)
    assert list(told.pass_at) == [1], "a task with one verdict has no pass@2"


def test_a_task_without_any_verdict_is_in_no_mean_and_in_both_bounds() -> None:
    told = score.score(endings("pp", "bb"), "strict", allow_missing=True)
    assert (told.rate, told.tasks, told.planned_tasks, told.bounds) == (1.0, 1, 2, (0.5, 1.0))
    with pytest.raises(BadSetting, match="nothing to score"):
        score.score(endings("bb"), "strict", allow_missing=True)


def test_the_bootstrap_covers_what_it_says_it_covers() -> None:
    chance = np.random.default_rng(3)
    truth, covered = 0.3, 0
    for number in range(200):
        sample = chance.binomial(5, chance.beta(3, 7, size=60)) / 5  # mean of a beta(3, 7): 0.3
        ((low, high),) = score.bootstrap(sample[:, None], seed=number, resamples=500)
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_a_seed_gives_the_same_interval_twice_and_another_gives_another() -> None:
    values = np.array([[0.0], [0.2], [1.0], [0.6]])
    assert score.bootstrap(values, seed=1) == score.bootstrap(values, seed=1)
    assert score.bootstrap(values, seed=1, resamples=50) != score.bootstrap(values, seed=2, resamples=50)


def test_sign_flips_by_hand() -> None:
    assert score.sign_flip(np.array([0.2, 0.4, 0.2]), seed=0) == pytest.approx(2 / 8)
    assert score.sign_flip(np.array([0.0, 0.0]), seed=0) == 1.0
    assert score.sign_flip(np.array([0.5, -0.5, 0.0]), seed=0) == 1.0


def test_many_sign_flips_agree_with_every_sign_flip() -> None:
    chance = np.random.default_rng(0)
    moved = chance.normal(0.3, 1.0, size=score._EXACT + 4)
    signs = np.array(list(itertools.product((-1, 1), repeat=len(moved))))
    exact = (abs(signs @ moved) >= abs(moved.sum()) - 1e-12).mean()
    assert score.sign_flip(moved, seed=5) == pytest.approx(exact, abs=0.02)


def test_under_no_difference_small_ps_are_as_rare_as_they_should_be() -> None:
    chance = np.random.default_rng(1)
    ps = [score.sign_flip(chance.normal(size=10), seed=0) for _ in range(400)]
    assert sum(p <= 0.1 for p in ps) / 400 == pytest.approx(0.1, abs=0.05)


def test_holm_by_hand() -> None:
    assert score.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert score.holm([0.9]) == [0.9]


def test_a_run_folder_is_read_attempt_by_attempt(tmp_path: Path) -> None:
    def change(played: Trajectory) -> Trajectory | None:
        if played.task.endswith("never"):
            return [
                replace(played, limit=LATE),
                replace(played, limit="the limit of 50 steps"),
                None,
                replace(played, outcome=Outcome("broken", None, "SandboxLost: gone")),
                played,
            ][played.attempt]
        if played.task.endswith("easy") and played.attempt == 0:
            return replace(played, limit=LATE)
        if played.task.endswith("fair") and played.outcome.status == "passed":
            cheat = Graded("failed", 0.0, "checks", integrity=("planted",))
            return replace(played, outcome=beside(Graded("passed", 1.0), cheat))
        return played

    one = score.read(evaluation(tmp_path / "run", RATES, change=change))
    assert (one.benchmark, one.attempts, one.grading, len(one.endings["parity"])) == (
        "terminal-bench@2.0",
        5,
        "parity",
        20,
    )
    never = [e.kind for e in one.endings["parity"] if e.task == "never"]
    assert never == ["timed_out", "failed", "not_played", "broken", "failed"]
    assert [e.reason for e in one.missing()] == ["not on record", "SandboxLost: gone"]
    told = score.score(one.endings["parity"], "parity", allow_missing=True)
    assert (told.counts["passed"], told.passed_late) == (9, 1)
    found = score.differences(one)
    assert {(d.task, d.parity.kind, d.strict.kind) for d in found} == {("fair", "passed", "failed")}
    assert len(found) == 3


def test_two_runs_are_compared_over_the_tasks_that_they_share(tmp_path: Path) -> None:
    worse = evaluation(tmp_path / "a", RATES | {"only-here": 1.0})
    better = evaluation(tmp_path / "b", {"easy": 1.0, "fair": 1.0, "hard": 0.6, "never": 0.0})
    pair = score.compare(score.read(worse), score.read(better), "strict")
    assert (pair.tasks, pair.left_out, pair.better, pair.worse) == (4, 1, 2, 0)
    assert pair.difference == pytest.approx((0.4 + 0.4) / 4)
    assert pair.p == 0.5  # two of two differ in one direction: 2 of 4 sign patterns are as far


def test_tasks_that_changed_between_two_runs_are_not_compared(tmp_path: Path) -> None:
    a = score.read(evaluation(tmp_path / "a", RATES))
    changed = {ref: "0" * 64 if ref.endswith("easy") else known for ref, known in a.settings["tasks"].items()}
    b = replace(a, settings={**a.settings, "tasks": changed})
    assert score.compare(a, b, "parity").left_out == 1
    assert a.digest != b.digest
