"""A commit that a daemon could not pause for is tried again; anything else is told at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError

from terminal_gym.sandbox.committed import commit


class Daemon:
    """Answers commits with what it was given: an error's words, or "" for a new image."""

    def __init__(self, *answers: str):
        self.answers, self.asked = list(answers), 0

    def inspect_container(self, container: str) -> dict[str, Any]:
        return {"Mounts": []}

    def commit(self, container: str, **settings: Any) -> dict[str, str]:
        self.asked += 1
        if why := self.answers.pop(0):
            raise APIError("500 Server Error", explanation=why)
        return {"Id": f"made at {self.asked}"}


def asked(daemon: Daemon) -> str:
    return commit(SimpleNamespace(client=daemon), "c", "box")[1]  # type: ignore[arg-type]


PAUSE = 'CommitFailure: pausing container "c" to commit: `runc pause c` failed: exit status 1'


def test_a_pause_that_failed_is_tried_again() -> None:
    assert asked(Daemon(PAUSE, PAUSE, "")) == "made at 3"


@pytest.mark.parametrize(("answers", "tries"), [((PAUSE,) * 4, 3), (("no space left", ""), 1)])
def test_what_goes_on_failing_is_told(answers: tuple[str, ...], tries: int) -> None:
    daemon = Daemon(*answers)
    with pytest.raises(APIError):
        asked(daemon)
    assert daemon.asked == tries
