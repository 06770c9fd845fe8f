"""Gymnasium spaces for what a terminal shows and takes: any Unicode text, within a length."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from gymnasium import spaces

from terminal_gym.trajectory.record import Observation

PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " \n"
COMPLAINT_LENGTH = 10_000
UNKNOWN_EXIT_CODE = -1


class Unicode(spaces.Text):
    """Text of any characters; `spaces.Text` would allow only those of its charset.

    Args:
        max_length: Most characters.
        min_length: Fewest characters.
        samples: What `sample` draws from; none: printable ASCII.
        seed: For `sample`.
    """

    def __init__(
        self,
        max_length: int,
        *,
        min_length: int = 0,
        samples: tuple[str, ...] = (),
        seed: int | None = None,
    ):
        super().__init__(max_length, min_length=min_length, charset=PRINTABLE, seed=seed)
        self.samples = samples

    def contains(self, x: Any) -> bool:
        """Return whether `x` is text of a length within the bounds."""
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Return one of `samples`, or up to 80 printable characters."""
        if mask is not None or probability is not None:
            return str(super().sample(mask=mask, probability=probability))
        if self.samples:
            return self.samples[int(self.np_random.integers(len(self.samples)))]
        length = int(self.np_random.integers(self.min_length, min(self.max_length, self.min_length + 80) + 1))
        return "".join(self.np_random.choice(list(PRINTABLE), size=length))

    def __repr__(self) -> str:
        return f"Unicode({self.min_length}, {self.max_length})"

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Unicode)
        return same and (self.min_length, self.max_length) == (other.min_length, other.max_length)  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]  # as its base: spaces are mutable


def observation_space(rows: int, cols: int, output_limit: int) -> spaces.Dict:
    """Return the space of what `as_dict` returns."""
    return spaces.Dict(
        {
            "screen": Unicode(_screen_length(rows, cols)),
            "output": Unicode(_output_length(output_limit)),
            "cursor": spaces.Box(0, np.array([rows - 1, cols - 1]), (2,), np.int64),
            "exit_code": spaces.Box(UNKNOWN_EXIT_CODE, 255, (), np.int64),
            "complaint": Unicode(COMPLAINT_LENGTH),
        }
    )


def as_dict(seen: Observation, rows: int, cols: int, output_limit: int) -> dict[str, Any]:
    """Return an observation as gymnasium's spaces want it; exit code -1 where none is known."""
    return {
        "screen": seen.screen[: _screen_length(rows, cols)],
        "output": seen.output[: _output_length(output_limit)],
        "cursor": np.array(seen.cursor, dtype=np.int64),
        "exit_code": np.array(
            UNKNOWN_EXIT_CODE if seen.exit_code is None else seen.exit_code, dtype=np.int64
        ),
        "complaint": seen.complaint[:COMPLAINT_LENGTH],
    }


def _screen_length(rows: int, cols: int) -> int:
    return rows * (4 * cols + 1)  # a cell may hold a character and its combining marks


def _output_length(limit: int) -> int:
    return limit + 200  # and the note on what was left out
