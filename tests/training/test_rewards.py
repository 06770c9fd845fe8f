from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kit.talk import talk

from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.record import Check, Outcome
from training.rewards import Curriculum, Reward, advantages, teaches


def test_only_a_verdict_pays() -> None:
    assert Reward().of(talk([("t", "a")]), most_turns=4) == 1.0
    assert Reward().of(talk([("t", "a")], status="failed"), most_turns=4) == 0.0
    assert Reward("checks", 1.0, 1.0).of(talk([("t", "a")], status="broken"), most_turns=4) is None


def test_checks_and_penalties() -> None:
    checks = tuple(
        Check(str(k), outcome) for k, outcome in enumerate(("passed", "failed", "skipped", "missing"))
    )
    half = replace(talk([("t", "a")] * 2), outcome=Outcome("failed", 0.0, "checks", checks))
    assert Reward("checks").of(half, most_turns=4) == pytest.approx(1 / 3)
    assert Reward(turn_penalty=0.2).of(talk([("t", "a")] * 2), most_turns=4) == pytest.approx(0.9)
    malformed = talk([("t", "a")] * 4, malformed=frozenset({0, 1}))
    assert Reward(malformed_penalty=0.4).of(malformed, most_turns=4) == pytest.approx(0.8)
    with pytest.raises(BadSetting):
        Reward(turn_penalty=-1.0)


def test_advantages_leave_out_what_has_no_verdict() -> None:
    made = advantages([[1.0, 0.0, np.nan, 0.0], [1.0, 1.0, 1.0, np.nan], [np.nan] * 4])
    assert made[0] == pytest.approx([1.1545, -0.5773, 0.0, -0.5773], abs=1e-3)
    assert not made[1].any()
    assert not made[2].any()
    assert advantages([[1.0, 0.0]], scale=False)[0] == pytest.approx([0.5, -0.5])
    assert (teaches([1.0, None, 0.0]), teaches([1.0, None, 1.0]), teaches([])) == (True, False, False)


def test_the_curriculum_draws_what_is_neither_sure_nor_hopeless() -> None:
    made = Curriculum(["sure", "half", "hopeless", "new"], seed=1)
    for _ in range(20):
        made.note("sure", 1.0)
        made.note("hopeless", 0.0)
    for reward in (1.0, 0.0, None):
        made.note("half", reward)
    drawn = made.draw(400)
    counts = {task: drawn.count(task) for task in made.tasks}
    assert counts["half"] > 4 * counts["sure"]
    assert counts["new"] > 4 * counts["hopeless"]
    assert made.within(0.1, 0.9) == ["half", "new"]
    assert set(made.draw(20, but=["half", "new"])) <= {"sure", "hopeless"}
    assert made.draw(2, but=made.tasks)
    with pytest.raises(BadSetting):
        Curriculum([])


def test_processes_begin_alike_and_then_draw_otherwise() -> None:
    one, other = Curriculum(list("abcdefgh"), seed=3), Curriculum(list("abcdefgh"), seed=3)
    assert one.draw(50) == other.draw(50)
    one.part_with(0)
    other.part_with(1)
    assert one.draw(50) != other.draw(50)
