"""The verdict rules of foreign formats, as pure functions of what a test script left: its output, or its reward files.

They follow upstream to the letter, also where that is lenient: for Terminal-Bench 1.0 a skipped and an expected failure
pass, and two tests of one name in two files are one. One thing is not followed: no test at all is an error, though
upstream takes "all of none" for true.

Source: terminal-bench 0.2.18, `parsers/`; Harbor 0.24, the verifier's reward files.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping

from terminal_gym.tasks.harness import Parser
from terminal_gym.trajectory.record import Check

_BANNER = re.compile(r"=+\s*short test summary info\s*=+", re.IGNORECASE)
_PASSING = ("PASSED", "SKIPPED", "XFAIL")
_FAILING = ("FAILED", "ERROR", "XPASS")
MOST_BYTES = 1 << 20  # of a reward file


class NoVerdict(ValueError):
    """A script left nothing from which the format's rules make a verdict; `.error` is upstream's name for that."""

    def __init__(self, error: str, what: str):
        self.error = error
        super().__init__(what)


def parsed(parser: Parser, output: str) -> dict[str, bool]:
    """Return test name → whether it passed, by the rules of a Terminal-Bench 1.0 parser.

    Args:
        output: What the script printed, both streams together.

    Raises:
        NoVerdict: The parser finds no result in it ("parse_error").
    """
    results = _PARSERS[parser](output)
    if not results:
        raise NoVerdict("parse_error", "the output names no test")
    return results


def _pytest(output: str) -> dict[str, bool]:
    parts = _BANNER.split(output, maxsplit=1)
    if len(parts) < 2:
        raise NoVerdict("parse_error", "the output has no short test summary (pytest -rA prints one)")
    results: dict[str, bool] = {}
    for line in parts[1].splitlines():
        if line.startswith("FAILED") and " - " in line:
            line = line.rpartition(" - ")[0]
        status, _, rest = line.strip().partition(" ")
        status, rest = status.strip(":"), rest.strip()
        name = rest.split("::", maxsplit=1)[-1]
        if name and status in _PASSING + _FAILING:
            results[name] = status in _PASSING
    return results


def skipped(output: str) -> list[str]:
    """Return the tests that a summary names as skipped or expected to fail: they pass upstream, and never with us."""
    parts = _BANNER.split(output, maxsplit=1)
    lines = parts[1].splitlines() if len(parts) == 2 else []
    found = (re.match(r"\s*(?:SKIPPED|XFAIL|XPASS)[:\s]+(.+)", line) for line in lines)
    return [match[1].strip() for match in found if match]


def _between(name: str, wanted: str, *, needed: bool) -> Callable[[str], dict[str, bool]]:
    """A parser of the block between two markers; not `needed`: where one is missing, the block goes to that end."""
    begin, end = f"{name} results starts here", f"{name} results ends here"

    def parse(output: str) -> dict[str, bool]:
        if needed and (begin not in output or end not in output):
            raise NoVerdict("parse_error", f"the output has no block of {name} results")
        block = output.split(begin, 1)[-1].rsplit(end, 1)[0]
        return {"tests": block.strip() == wanted}

    return parse


def _swelancer(output: str) -> dict[str, bool]:
    text = output.lower()
    if "swe lancer success" in text:
        return {"swelancer_task": True}
    return {
        "swelancer_task": "swe lancer failure" not in text and "user_tool" in text and "completed" in text
    }


_PARSERS: Mapping[Parser, Callable[[str], dict[str, bool]]] = {
    "pytest": _pytest,
    "swebench": _between("SWEBench", "PASSED", needed=True),
    "sweperf": _between("SWE-Perf", "PASSED", needed=True),
    "mlebench": _between("MLEBench", "ALL TESTS PASSED", needed=False),
    "swelancer": _swelancer,
}


def rewards(as_json: bytes | None, as_text: bytes | None) -> dict[str, float]:
    """Return the rewards of a Harbor verifier: of reward.json if it is there, else of reward.txt.

    Raises:
        NoVerdict: Neither is there, or the one that counts is empty or holds no finite numbers.
    """
    if as_json is not None:
        return _json_rewards(as_json)
    if as_text is None:
        raise NoVerdict("RewardFileNotFoundError", "neither reward.json nor reward.txt was written")
    if not as_text:
        raise NoVerdict("RewardFileEmptyError", "reward.txt is empty")
    text = as_text.decode("utf-8", "replace")
    try:
        value = float(text)
    except ValueError:
        raise NoVerdict("VerifierOutputParseError", f"reward.txt holds {text[:80]!r}") from None
    return {"reward": _finite("reward.txt", value)}


def _json_rewards(body: bytes) -> dict[str, float]:
    if not body:
        raise NoVerdict("RewardFileEmptyError", "reward.json is empty")
    try:
        values = json.loads(body[: MOST_BYTES + 1])
    except (ValueError, RecursionError) as error:
        raise NoVerdict("VerifierOutputParseError", f"reward.json is not JSON: {error}") from None
    if not isinstance(values, dict) or not values:
        raise NoVerdict("VerifierOutputParseError", "reward.json is no object with rewards")
    found = {}
    for key, value in values.items():
        if not isinstance(value, int | float):
            raise NoVerdict("VerifierOutputParseError", f"reward.json: {key!r} is no number")
        found[key] = _finite(f"reward.json: {key!r}", value)
    return found


def _finite(what: str, value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise NoVerdict("VerifierOutputParseError", f"{what} is not finite")
    return number


def reward_of(values: Mapping[str, float]) -> float:
    """Return the one number of a reward file: the key `reward`, else the mean of all keys."""
    return values["reward"] if "reward" in values else sum(values.values()) / len(values)


def checks(results: Mapping[str, bool]) -> tuple[Check, ...]:
    """Return a check per test, as the parser saw it."""
    return tuple(Check(name, "passed" if passed else "failed") for name, passed in results.items())
