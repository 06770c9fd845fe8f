"""Outputs of test scripts for the official parsers to read: made from the pieces that their rules look at."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

_BANNERS = (
    "=========================== short test summary info ============================",
    "== Short Test Summary Info ==",
    "=short test summary info=",
    "short test summary info",
    "=====  short  test summary info  =====",
)
_NAMES = ("test_a", "test_b", "test_c[x - y]", "TestBox::test_in", "test_q[a::b]", "test space", "")
_FILES = ("../tests/test_outputs.py::", "tests/test_other.py::", "")
_STATUSES = (
    "PASSED",
    "FAILED",
    "SKIPPED",
    "XFAIL",
    "XPASS",
    "ERROR",
    "UNKNOWN",
    "passed",
    "RERUN",
    "FAILED:",
    "XFAILED",
)
_TAILS = ("", " - AssertionError: no", " - a - b", " -", " - ", "\r", "  ", " [1]")
_NOISE = (
    "",
    "...",
    "PASSED",
    "collected 3 items",
    "1 failed, 2 passed in 0.03s",
    "E   assert 1 == 2",
    "\x1b[31mFAILED\x1b[0m x::y",
)
_BOXES = {
    "swebench": ("SWEBench results starts here", "SWEBench results ends here"),
    "sweperf": ("SWE-Perf results starts here", "SWE-Perf results ends here"),
    "mlebench": ("MLEBench results starts here", "MLEBench results ends here"),
}
_WORDS = (
    "PASSED",
    "FAILED",
    "ALL TESTS PASSED",
    "passed",
    "",
    "PASSED\nPASSED",
    "  PASSED  ",
    "NOT PASSED",
    "ALL TESTS PASSED!",
)
_LANCER = (
    "swe lancer success",
    "SWE Lancer Success",
    "swe lancer failure",
    "user_tool",
    "completed",
    "nothing",
)


def outputs(count: int, *, seed: int) -> Iterator[dict[str, str]]:
    """Yield `count` different pairs of parser and text; the same seed gives the same ones."""
    chance, told = random.Random(seed), set[tuple[str, str]]()
    for number in itertools.count():
        made = _output(chance, number)
        if (made["parser"], made["text"]) not in told:
            told.add((made["parser"], made["text"]))
            yield made
        if len(told) == count:
            return


def _output(chance: random.Random, number: int) -> dict[str, str]:
    if number % 8 == 7:
        return {"parser": "swelancer", "text": "\n".join(chance.choices(_LANCER, k=chance.randint(0, 4)))}
    return _boxed(chance) if number % 2 else {"parser": "pytest", "text": _pytest(chance)}


def _pytest(chance: random.Random) -> str:
    lines = chance.choices(_NOISE, k=chance.randint(0, 3))
    for _ in range(chance.choice((0, 1, 1, 1, 1, 2))):
        lines.append(chance.choice(_BANNERS))
        lines += [_line(chance) for _ in range(chance.randint(0, 5))]
    return "\n".join(lines + chance.choices(_NOISE, k=chance.randint(0, 2)))


def _line(chance: random.Random) -> str:
    if chance.random() < 0.15:
        return chance.choice(_NOISE)
    lead = chance.choice(("", "", "", "", "  "))
    gap = chance.choice((" ", " ", " ", "  ", ""))
    parts = [chance.choice(options) for options in (_STATUSES, _FILES, _NAMES, _TAILS)]
    return lead + parts[0] + gap + "".join(parts[1:])


def _boxed(chance: random.Random) -> dict[str, str]:
    parser = chance.choice(list(_BOXES))
    start, end = _BOXES[parser]
    word = chance.choice(_WORDS)
    marks = chance.choice(
        ((start, end),) * 5 + ((start, ""), ("", end), (end, start), (start.lower(), end), ("", ""))
    )
    again = f"\n{start}\nFAILED\n{end}" if chance.random() < 0.1 else ""
    return {"parser": parser, "text": f"noise\n{marks[0]}\n{word}\n{marks[1]}\nmore{again}"}
