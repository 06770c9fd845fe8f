"""The test that must fail. In a file of its own: pytest parses the whole file of every failure, each time."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def failing(message: str) -> Callable[[], None]:
    def check() -> None:
        raise AssertionError(message)

    return check
