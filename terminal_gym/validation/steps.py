"""The verdict on a task in several steps, from the verdicts on the steps that were played. Pure.

Source: Harbor 0.24, multi-step tasks: `mean` and `final` rewards, `min_reward`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from terminal_gym.tasks.harness import Strategy
from terminal_gym.trajectory.record import Check, CheckOutcome, Graded, Grading, StepOutcome
from terminal_gym.validation.parsers import reward_of
from terminal_gym.validation.verdict import Verdict


def goes_on(least: Mapping[str, float], played: StepOutcome) -> bool:
    """Whether the next step is played: there is a result, and each key that `least` names has at least that reward.

    A missing key has none. A step without a result, its script wrote no reward say, ends the task, as upstream.
    """
    graded = played.parity or played.strict
    if graded is None or graded.status == "broken" or graded.error:
        return False
    rewards = graded.rewards or {"reward": graded.reward or 0.0}
    return all(rewards.get(key, float("-inf")) >= value for key, value in least.items())


def combined(
    played: Sequence[StepOutcome], *, steps: int, strategy: Strategy, grading: Grading, last: Verdict
) -> Verdict:
    """Return the verdict on the whole task.

    Args:
        played: Of the steps that were judged, in order.
        steps: How many the task has; the strict verdict passes only where all were played.
        last: The verdict on the last step, whose notes and trusted hash are taken over.
    """
    sides = {
        "strict": _one([step.strict for step in played], strategy, whole=len(played) == steps),
        "parity": _one([step.parity for step in played], strategy, whole=True),
    }
    mine = sides[grading] or Graded("broken", None, "no step was judged")
    other = sides["parity" if grading == "strict" else "strict"]
    return Verdict(
        mine.status,
        last.mode,
        mine.reason,
        tuple(Check(step.name, _outcome(step, grading)) for step in played),
        last.integrity,
        last.seconds,
        last.trusted_hash,
        last.log_tail,
        grading,
        mine.error,
        mine.rewards,
        other,
        last.notes,
        tuple(played),
        mine.reward,
    )


def _outcome(step: StepOutcome, grading: Grading) -> CheckOutcome:
    graded = step.strict if grading == "strict" else step.parity
    return "missing" if graded is None else "passed" if graded.status == "passed" else "failed"


def _one(found: Sequence[Graded | None], strategy: Strategy, *, whole: bool) -> Graded | None:
    graded = [one for one in found if one is not None]
    if not graded:
        return None
    if broken := next((one for one in graded if one.status == "broken"), None):
        return broken
    last = graded[-1:] if strategy == "final" else graded
    counted = [
        one for one in last if not one.error
    ]  # upstream leaves a step without a result out of the mean
    results = [one.rewards or {"reward": one.reward or 0.0} for one in counted]
    if not results:
        return Graded("failed", 0.0, graded[-1].reason, error=graded[-1].error, mode=graded[-1].mode)
    keys = sorted({key for result in results for key in result})
    rewards = {key: sum(result.get(key, 0.0) for result in results) / len(results) for key in keys}
    # What a step's rules took back, a skipped test say, its file does not show.
    value = min(reward_of(rewards), sum(one.reward or 0.0 for one in counted) / len(counted))
    passed = value >= 1.0 and whole
    reason = "" if passed else "steps" if whole else "a step was not reached"
    return Graded(
        "passed" if passed else "failed", value if whole else min(value, 0.0), reason, rewards=rewards
    )
