"""Wait for a fact, under a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(claim: Callable[[], bool], *, deadline_s: float) -> bool:
    """Return whether `claim` came true before the deadline; asked every few milliseconds."""
    until = time.monotonic() + deadline_s
    while not claim():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
