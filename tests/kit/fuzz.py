"""Fuzzing: a property of any bytes, tried on a few fixed examples in every run, and on very many with `-m whole`.

A target takes bytes, gives them to the product, and raises where what comes back is not what was promised: an
assertion, or an exception that is none of ours. `fuzzed` makes a test of it; `coverage_guided.py` drives the same
targets by coverage.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WHOLE = int(os.environ.get("TGYM_FUZZ_TIMES", "50"))  # how many times the examples of a slice the whole has
Target = Callable[[bytes], None]


def fuzzed(
    inputs: st.SearchStrategy[Any], *, examples: int, known: Sequence[Any] = ()
) -> Callable[[Callable[[Any], None]], Callable[[int], None]]:
    """Make a test of a target: the same examples every time in the slice, others each time in the whole.

    Args:
        known: Inputs that once made the product fall, tried first.
    """

    def decorated(target: Callable[[Any], None]) -> Callable[[int], None]:
        # Not the target itself: hypothesis marks the function that it is given, and several tests may share one.
        def check(data: Any) -> None:
            target(data)

        whole = [pytest.mark.whole, pytest.mark.timeout(3600)]
        times = [pytest.param(1, id="slice"), pytest.param(WHOLE, id="whole", marks=whole)]

        @pytest.mark.parametrize("times", times)
        def test(times: int) -> None:
            for one in known:
                check(one)
            profile = settings(
                max_examples=examples * times,
                derandomize=times == 1,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            profile(given(inputs)(check))()

        test.__name__ = test.__qualname__ = target.__name__
        test.__doc__ = target.__doc__
        return test

    return decorated


def mutated(seeds: Sequence[bytes], words: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Sound documents with up to eight pieces cut out, doubled, moved, flipped, or put in from `words`."""
    pieces = st.binary(max_size=8)
    if words:
        pieces = st.one_of(st.sampled_from(words), pieces)
    place, length = st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 24)
    edit = st.tuples(
        st.sampled_from(("cut", "double", "move", "flip", "put", "end")), place, place, length, pieces
    )
    return st.builds(_edited, st.sampled_from(seeds), st.lists(edit, max_size=8))


def _edited(data: bytes, edits: Sequence[tuple[str, float, float, int, bytes]]) -> bytes:
    for what, place, other, length, piece in edits:
        at, to = int(place * (len(data) + 1)), int(other * (len(data) + 1))
        if what == "cut":
            data = data[:at] + data[at + length :]
        elif what == "double":
            data = data[:at] + data[at : at + length] * 2 + data[at + length :]
        elif what == "move":
            data = data[:to] + data[at : at + length] + data[to:]
        elif what == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << (length % 8))]) + data[at + 1 :]
        elif what == "put":
            data = data[:at] + piece + data[at + length % 3 :]
        elif what == "end":
            data = data[:at] + piece
    return data
