"""A judge's sandbox is removed beside the verdict, and not without bound."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from kit.waiting import wait_until

from terminal_gym.errors import SandboxLost
from terminal_gym.validation import fresh
from terminal_gym.validation.fresh import Coming, Fresh


class SlowToRemove:
    """What a sandbox does at its end: the daemon takes its time, and may be gone."""

    def __init__(self, error: SandboxLost | None = None):
        self.may_go, self.closed, self.error = threading.Event(), 0, error

    def close(self) -> None:
        self.may_go.wait(10.0)
        self.closed += 1
        if self.error:
            raise self.error


def judge(sandbox: SlowToRemove) -> Fresh:
    never: Any = None  # it is not asked here
    return Fresh(sandbox, never, "canary")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def two_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "_leaving", threading.BoundedSemaphore(2))


def test_a_verdict_does_not_wait_for_the_removal() -> None:
    sandbox = SlowToRemove()
    with Coming(lambda: judge(sandbox)) as coming:
        assert coming.get().canary == "canary"
    assert sandbox.closed == 0
    sandbox.may_go.set()
    assert wait_until(lambda: sandbox.closed == 1, deadline_s=10)


def test_removals_keep_pace_with_verdicts() -> None:
    slow, third = [SlowToRemove(), SlowToRemove()], SlowToRemove()
    third.may_go.set()
    for one in slow:
        judge(one).leave()
    judge(third).leave()
    assert third.closed == 1  # two are on their way: the third was waited for
    for one in slow:
        one.may_go.set()
    assert wait_until(lambda: all(one.closed for one in slow), deadline_s=10)


def test_a_removal_that_fails_leaves_the_verdict_and_makes_room() -> None:
    for _ in range(3):
        gone = SlowToRemove(SandboxLost("the daemon is gone"))
        gone.may_go.set()
        judge(gone).leave()
        assert wait_until(lambda one=gone: one.closed == 1, deadline_s=10)
        assert wait_until(lambda: fresh._leaving._value == 2, deadline_s=10)  # type: ignore[attr-defined]


def test_one_whose_episode_went_wrong_is_removed_before_that_is_told() -> None:
    sandbox = SlowToRemove()
    sandbox.may_go.set()

    def episode() -> None:
        with Coming(lambda: judge(sandbox)) as coming:
            coming.get()
            raise SandboxLost("first")

    with pytest.raises(SandboxLost, match="first"):
        episode()
    assert sandbox.closed == 1
