"""A judge on a new sandbox of the pristine image, made now or meanwhile.

Its start needs nothing of the agent's: it can go on while the agent's machine is stopped and read, or while the agent
still works. Until it is asked it holds the orders and a canary, no test and no key, and nothing of it can be reached
from the agent's sandbox.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from terminal_gym.errors import SandboxError
from terminal_gym.sandbox.base import Sandbox
from terminal_gym.trusted_runtime.orders import JudgeOrders
from terminal_gym.validation.signed import Judge


@dataclass(frozen=True)
class Fresh:
    """A judge that waits, the sandbox that it stands in, and the canary that its report must name."""

    sandbox: Sandbox
    judge: Judge
    canary: str

    @classmethod
    def booted(cls, sandbox: Sandbox, orders: JudgeOrders) -> Self:
        """Boot `sandbox`, which is closed where that fails.

        Raises:
            SandboxError: It does not boot.
        """
        try:
            return cls(sandbox, Judge(sandbox, orders), orders.canary)
        except BaseException:
            with contextlib.suppress(SandboxError):
                sandbox.close()
            raise

    def close(self) -> None:
        """Remove the sandbox. Safe to call again."""
        self.sandbox.close()

    def leave(self) -> None:
        """Remove the sandbox while the caller goes on: it has spoken, and nothing in it runs any more.

        The runtime still holds it meanwhile: its `close` waits for that, and what is killed before is reaped.
        """
        if _leaving.acquire(blocking=False):
            threading.Thread(target=self._leave, name="tgym-judge-leaves", daemon=True).start()
        else:  # many verdicts at once: the removals keep pace with them
            self.close()

    def _leave(self) -> None:
        try:
            # Its report stands; the runtime tries again when it is closed.
            with contextlib.suppress(SandboxError):
                self.close()
        finally:
            _leaving.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_leaving = threading.BoundedSemaphore(8)


class Coming:
    """One that is being made in a thread of its own; a context manager, at whose end it leaves.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], Fresh]):
        self._make = make
        self._fresh: Fresh | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="tgym-judge", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._fresh = self._make()
        except BaseException as error:
            self._error = error

    def get(self) -> Fresh:
        """Wait for it.

        Raises:
            SandboxError: It could not be made.
        """
        self._thread.join()
        if self._fresh is None:
            assert self._error is not None
            raise self._error
        return self._fresh

    def close(self) -> None:
        """Remove it, whether it was asked or not. Safe to call again."""
        self._thread.join()
        if self._fresh is not None:
            self._fresh.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._fresh is not None:
            self._fresh.leave()
            return
        with contextlib.suppress(SandboxError):  # what went wrong first is told
            self.close()
