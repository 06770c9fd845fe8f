"""Waits until a machine is healthy, by the check that its task names."""

from __future__ import annotations

import time
from collections.abc import Callable

from terminal_gym.errors import SandboxError
from terminal_gym.tasks.harness import Healthcheck

_LOOK_S = 0.1  # to the second try; later ones come more slowly


def wait_healthy(
    check: Healthcheck, healthy: Callable[[], bool], *, why: Callable[[str], SandboxError]
) -> None:
    """Ask until it is healthy; sooner than the check's own interval, which says how long at most it may take.

    Args:
        healthy: One try.
        why: Makes the error of what is said, raised at the end of the check's own time.
    """
    until = time.monotonic() + check.start_s + check.retries * (check.interval_s + check.timeout_s)
    pause_s = _LOOK_S
    while not healthy():
        if time.monotonic() > until:
            raise why(f"did not become healthy in {check.retries} tries")
        time.sleep(min(pause_s, check.interval_s or _LOOK_S))
        pause_s = min(pause_s * 1.5, max(_LOOK_S, check.interval_s))
