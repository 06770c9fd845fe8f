"""A signed report → a verdict's status, reason and checks. Pure: what is decided here needs no sandbox.

Trusted is who signed. What the report says was made in a process that also ran the tests, so its shape is checked
entry by entry, every expected test must be there and must have passed, and every canary must have failed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from terminal_gym.trajectory.record import Check, CheckOutcome, Status
from terminal_gym.trusted_runtime.orders import REPORT

_PHASES = ("setup", "call", "teardown")
_AGENT_FAULT = "agent_fault: "
_FAULT_OF_STATUS = {
    "died": "verifier_died",
    "timeout": "timeout",
    "too_large": "verifier_died",
    "bad_report": "verifier_died",
    "bad_artifacts": "artifact_bad",
    "no_room": "no_room",  # on the agent's own machine, which it has filled
}


@dataclass(frozen=True)
class Decision:
    """What a report amounts to."""

    status: Status
    reason: str
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Report:
    """A report whose signature holds."""

    status: str  # see guest/judge.py
    dropped: bool
    items: tuple[str, ...]
    canaries: tuple[str, ...]
    reports: tuple[
        tuple[str, str, str, bool, str], ...
    ]  # node id, when, outcome, was an xfail, end of the text
    errors: tuple[str, ...]
    out: str


def opened(stream: bytes, key: bytes) -> Report | None:
    """Return the first report in `stream` that is signed with `key`; the rest is noise."""
    document = signed(stream, key)
    return None if document is None else parsed(document)


def signed(stream: bytes, key: bytes) -> dict[str, Any] | None:
    """Return the first object in `stream` that is signed with `key`, None where there is none."""
    for line in stream.split(b"\n"):
        begin = line.find(REPORT)
        if begin < 0:
            continue
        signature, _, body = line[begin + len(REPORT) :].strip().partition(b" ")
        try:
            document = base64.b64decode(body, validate=True)
        except ValueError:
            continue
        if hmac.compare_digest(signature, hmac.new(key, document, hashlib.sha256).hexdigest().encode()):
            found = _loaded(document)
            return found if isinstance(found, dict) else {}
    return None


def _loaded(document: bytes) -> object:
    """Return what a signed document says; what the tests forged in it may be nested deeper than we can read."""
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        return None


def parsed(document: dict[str, Any]) -> Report:
    """Take from the document what has the right shape; the rest was forged in process and counts as missing."""
    inner = document.get("report")
    inner = inner if isinstance(inner, dict) else {}
    reports = [
        (entry[0], entry[1], entry[2], entry[3] is not None, str(entry[4]))
        for entry in _listed(inner.get("reports"))
        if isinstance(entry, list) and len(entry) == 5 and all(isinstance(part, str) for part in entry[:3])
    ]
    status = str(document.get("status"))
    whole = status != "reported" or (bool(inner) and len(reports) == len(_listed(inner.get("reports"))))
    return Report(
        status if whole else "bad_report",
        document.get("dropped") is True,
        tuple(item for item in _listed(inner.get("items")) if isinstance(item, str)),
        tuple(item for item in _listed(inner.get("canaries")) if isinstance(item, str)),
        tuple(reports),
        tuple(str(error) for error in _listed(inner.get("errors"))),
        str(document.get("out", "")),
    )


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def decide(report: Report | None, *, expected: Sequence[str], canary: str, fresh: bool = True) -> Decision:
    """Return what the report amounts to; `broken` only where the supervisor itself failed.

    Args:
        report: None where no validly signed line came.
        expected: Full pytest node ids, each of which must have passed in setup, call and teardown.
        canary: What each canary must have failed with.
        fresh: Whether the judge had a machine of its own, on which no agent can have used up the room.
    """
    if report is None:
        return _fault("no_report")
    if report.status != "reported":
        if report.status not in _FAULT_OF_STATUS or (report.status == "no_room" and fresh):
            return Decision("broken", f"the supervisor ended with {report.status!r}: {report.out[-500:]}")
        return _fault(_FAULT_OF_STATUS[report.status])
    checks = _checks(report, expected)
    if not _canaries_sang(report, canary):
        return _fault("tamper_canary", checks)
    if report.errors:
        return _fault("collect_error", checks)
    if Counter(report.items) != Counter(expected):
        return _fault("wrong_items", checks)
    if all(check.outcome == "passed" for check in checks):
        return Decision("passed", "", checks)
    return Decision("failed", "checks", checks)


def _fault(name: str, checks: tuple[Check, ...] = ()) -> Decision:
    return Decision("failed", _AGENT_FAULT + name, checks)


def _canaries_sang(report: Report, canary: str) -> bool:
    """One per item, each failed in its call with our message, none more than once."""
    if len(set(report.canaries)) != len(report.items):
        return False
    calls = [(id, outcome, text) for id, when, outcome, _, text in report.reports if when == "call"]
    sang = Counter(id for id, outcome, text in calls if outcome == "failed" and canary in text)
    return all(sang[id] == 1 for id in report.canaries) and not any(
        id in sang and outcome != "failed" for id, outcome, _ in calls
    )


def _checks(report: Report, expected: Sequence[str]) -> tuple[Check, ...]:
    """One check per expected id, in that order; what ran beside them is seen by comparing the items."""
    by_id: dict[str, list[tuple[str, str, bool, str]]] = {}
    for id, when, outcome, xfail, text in report.reports:
        by_id.setdefault(id, []).append((when, outcome, xfail, text))
    return tuple(_check(id, by_id.get(id, [])) for id in expected)


def _check(id: str, phases: list[tuple[str, str, bool, str]]) -> Check:
    text = "\n".join(text for *_, text in phases if text)[-2000:]
    outcome: CheckOutcome
    if not phases:
        outcome = "missing"
    elif any(xfail or result == "skipped" for _, result, xfail, _ in phases):
        outcome = "skipped"
    elif any(result == "failed" for when, result, _, _ in phases if when != "call"):
        outcome = "error"
    elif any(result == "failed" for _, result, _, _ in phases):
        outcome = "failed"
    elif tuple(when for when, *_ in phases) == _PHASES and all(
        result == "passed" for _, result, _, _ in phases
    ):
        outcome = "passed"
    else:
        outcome = "error"
    return Check(id, outcome, "" if outcome == "passed" else text)
