"""The rules by which the verdicts on steps become one; on real tasks: tests/journeys and `tgym bench parity`."""

import pytest

from terminal_gym.tasks.harness import Strategy
from terminal_gym.trajectory.record import Graded, StepOutcome
from terminal_gym.validation.steps import combined, goes_on
from terminal_gym.validation.verdict import Verdict

NO_REWARD = Graded("failed", 0.0, error="RewardFileNotFoundError")


def step(parity: Graded | float, strict: Graded | None = None) -> StepOutcome:
    if not isinstance(parity, Graded):
        parity = Graded("passed" if parity >= 1.0 else "failed", parity, rewards={"reward": parity})
    return StepOutcome("any", strict or parity, parity)


def reward(*played: StepOutcome, strategy: Strategy = "mean", steps: int | None = None) -> tuple[object, ...]:
    last = Verdict("failed", "restart")
    found = combined(played, steps=steps or len(played), strategy=strategy, grading="parity", last=last)
    strict = found.beside
    assert strict is not None
    return found.status, found.reward(), found.error, strict.status


@pytest.mark.parametrize(
    ("played", "least", "on"),
    [
        (step(0.0), {}, True),
        (step(0.5), {"reward": 0.5}, True),
        (step(0.4), {"reward": 0.5}, False),
        (step(1.0), {"style": 0.0}, False),
        (step(NO_REWARD), {}, False),
        (step(Graded("broken", None)), {}, False),
    ],
)
def test_whether_the_next_step_is_played(played: StepOutcome, least: dict[str, float], on: bool) -> None:
    assert goes_on(least, played) is on


def test_the_mean_is_over_the_steps_that_have_a_result() -> None:
    assert reward(step(1.0), step(1.0)) == ("passed", 1.0, "", "passed")
    assert reward(step(1.0), step(0.0)) == ("failed", 0.5, "", "failed")
    assert reward(step(1.0), step(NO_REWARD, Graded("failed", 0.0))) == ("passed", 1.0, "", "failed")
    assert reward(step(NO_REWARD)) == ("failed", 0.0, "RewardFileNotFoundError", "failed")


def test_final_is_the_last_that_was_played() -> None:
    assert reward(step(0.0), step(1.0), strategy="final")[:2] == ("passed", 1.0)
    assert reward(step(1.0), step(0.0), strategy="final")[:2] == ("failed", 0.0)
    assert reward(step(1.0), step(NO_REWARD), strategy="final")[:3] == (
        "failed",
        0.0,
        "RewardFileNotFoundError",
    )


def test_ours_does_not_pass_what_was_not_reached() -> None:
    assert reward(step(1.0), steps=2) == ("passed", 1.0, "", "failed")


def test_a_broken_step_is_a_broken_task() -> None:
    assert reward(step(1.0), step(Graded("broken", None, "lost")))[0] == "broken"
