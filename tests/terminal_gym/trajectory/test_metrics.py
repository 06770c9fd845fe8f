import itertools
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.trajectories import trajectory

from terminal_gym.trajectory.metrics import Tally, bands, by_task, funnel, pass_at, pass_at_ks, tally, wilson
from terminal_gym.trajectory.store import Row, Run, RunWriter


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    folder = tmp_path_factory.mktemp("metrics") / "run"
    with RunWriter(folder, {}) as run:
        run.append(trajectory())
    return Run(folder).rows[0]


def rows(row: Row, ends: dict[str, str]) -> list[Row]:
    """Return rows: task → one letter an attempt, p(assed), f(ailed) or b(roken)."""
    status: dict[str, Literal["passed", "failed", "broken"]] = {"p": "passed", "f": "failed", "b": "broken"}
    return [
        replace(row, task=task, attempt=k, status=status[letter])
        for task, letters in ends.items()
        for k, letter in enumerate(letters)
    ]


def test_broken_attempts_are_counted_apart(row: Row) -> None:
    told = tally(rows(row, {"a": "pfb"}))
    assert (told.attempts, told.passed, told.failed, told.broken, told.judged) == (3, 1, 1, 1, 2)
    assert told.solve_rate == 0.5
    assert tally(rows(row, {"a": "bb"})).solve_rate is None
    assert told.prompt_tokens == 3 * row.prompt_tokens > 0


@given(n=st.integers(1, 8), c=st.integers(0, 8), k=st.integers(1, 8))
def test_pass_at_k_is_the_share_of_all_choices_that_hold_a_pass(n: int, c: int, k: int) -> None:
    c, k = min(c, n), min(k, n)
    choices = list(itertools.combinations([True] * c + [False] * (n - c), k))
    one = Tally(attempts=n, passed=c, failed=n - c)
    assert pass_at(k, {"a": one}) == pytest.approx(sum(map(any, choices)) / len(choices))


def test_pass_at_k_wants_k_judged_attempts_of_each_task(row: Row) -> None:
    tasks = by_task(rows(row, {"a": "pppp", "b": "ffbf"}))
    assert pass_at(4, tasks) is None
    assert pass_at_ks(tasks) == {1: 0.5, 2: 0.5}
    assert pass_at_ks({}) == {}


def test_bands(row: Row) -> None:
    tasks = by_task(rows(row, {"a": "ppp", "b": "fff", "c": "pffff", "d": "pf", "e": "pppf", "f": "b"}))
    assert bands(tasks) == {"never": 1, "rarely": 1, "sometimes": 1, "often": 1, "always": 1, "unknown": 1}


@given(judged=st.integers(1, 10_000), share=st.floats(0, 1))
def test_the_interval_holds_the_rate(judged: int, share: float) -> None:
    passed = int(judged * share)
    low, high = wilson(passed, judged)
    assert 0.0 <= low <= passed / judged + 1e-12
    assert passed / judged - 1e-12 <= high <= 1.0


def test_wilson_against_a_published_value() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-4)  # Newcombe 1998, table I, method 3


def test_funnel(row: Row) -> None:
    assert funnel(6, rows(row, {"a": "pfb", "b": "pp"})) == {
        "planned": 6,
        "finished": 5,
        "judged": 4,
        "passed": 3,
        "broken": 1,
    }
