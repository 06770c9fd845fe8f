"""From a signed report to a decision: nothing but a complete pass is a pass, and nothing at all raises."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.trusted_runtime.orders import REPORT
from terminal_gym.validation.report import decide, opened

KEY, CANARY = bytes(range(32)), "feedface"
IDS = ("test_outputs.py::test_a", "test_outputs.py::TestB::test_c[x::y]")
CANARIES = ("test_outputs.py::test_zzz", "test_outputs.py::TestB::test_yyy")
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def phases(id: str, call: str = "passed", xfail: str | None = None, text: str = "") -> list[list[Any]]:
    return [
        [id, "setup", "passed", None, ""],
        [id, "call", call, xfail, text],
        [id, "teardown", "passed", None, ""],
    ]


def document(**changes: Any) -> dict[str, Any]:
    reports = [phase for id in IDS for phase in phases(id)]
    reports += [phase for id in CANARIES for phase in phases(id, "failed", text=f"AssertionError: {CANARY}")]
    inner = {"rc": 1, "items": list(IDS), "canaries": list(CANARIES), "reports": reports, "errors": []}
    whole = {
        "status": "reported",
        "timed_out": False,
        "dropped": True,
        "out": "",
        "truncated": False,
        "s": 0.1,
    }
    return whole | {"report": inner | changes.pop("report", {})} | changes


def signed(found: object, key: bytes = KEY) -> bytes:
    body = json.dumps(found).encode()
    signature = hmac.new(key, body, hashlib.sha256).hexdigest().encode()
    return b"\n" + REPORT + signature + b" " + base64.b64encode(body) + b"\n"


def verdict(found: dict[str, Any]) -> tuple[str, str]:
    decision = decide(opened(signed(found), KEY), expected=IDS, canary=CANARY)
    return decision.status, decision.reason


def test_everything_passed_is_a_pass() -> None:
    assert verdict(document()) == ("passed", "")


@pytest.mark.parametrize(
    ("reports", "outcome"),
    [
        (phases(IDS[0], "failed", text="boom"), "failed"),
        (phases(IDS[0], "skipped"), "skipped"),
        (phases(IDS[0], "passed", xfail=""), "skipped"),
        (phases(IDS[0])[:2], "error"),  # no teardown
        ([*phases(IDS[0]), *phases(IDS[0])], "error"),  # twice
        ([[IDS[0], "setup", "failed", None, "no fixture"]], "error"),
        ([*phases(IDS[0])[:2], [IDS[0], "teardown", "failed", None, "late"]], "error"),
        ([], "missing"),
    ],
)
def test_a_test_that_did_not_wholly_pass_fails_the_verdict(reports: list[Any], outcome: str) -> None:
    others = [entry for entry in document()["report"]["reports"] if entry[0] != IDS[0]]
    decision = decide(
        opened(signed(document(report={"reports": reports + others})), KEY), expected=IDS, canary=CANARY
    )
    assert (decision.status, decision.reason) == ("failed", "checks")
    assert [check.outcome for check in decision.checks] == [outcome, "passed"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "died", "report": {}}, "agent_fault: verifier_died"),
        ({"status": "timeout"}, "agent_fault: timeout"),
        ({"status": "too_large"}, "agent_fault: verifier_died"),
        ({"status": "bad_artifacts"}, "agent_fault: artifact_bad"),
        ({"report": {"items": [*IDS, "test_outputs.py::test_extra"]}}, "agent_fault: tamper_canary"),
        ({"report": {"canaries": list(CANARIES[:1])}}, "agent_fault: tamper_canary"),
        ({"report": {"errors": [["test_outputs.py", "ImportError"]]}}, "agent_fault: collect_error"),
    ],
)
def test_what_the_agent_broke_is_its_fault(changes: dict[str, Any], reason: str) -> None:
    assert verdict(document(**changes)) == ("failed", reason)


def test_a_canary_that_passed_or_fails_with_other_words_is_tampering() -> None:
    for call, text in (("passed", ""), ("failed", "other words")):
        kept = [entry for entry in document()["report"]["reports"] if entry[0] != CANARIES[0]]
        forged = document(report={"reports": kept + phases(CANARIES[0], call, text=text)})
        assert verdict(forged) == ("failed", "agent_fault: tamper_canary")


def test_missing_and_extra_items_are_wrong_items() -> None:
    one = document(report={"items": list(IDS[:1]), "canaries": list(CANARIES[:1])})
    assert verdict(one) == ("failed", "agent_fault: wrong_items")


def test_no_report_is_the_agents_fault_and_a_supervisor_that_failed_is_not() -> None:
    assert decide(None, expected=IDS, canary=CANARY).reason == "agent_fault: no_report"
    assert verdict(document(status="crashed"))[0] == "broken"
    assert verdict(document(status="bad_tests"))[0] == "broken"
    assert verdict(document(status="a word of tomorrow"))[0] == "broken"


def test_only_the_first_line_signed_with_our_key_counts() -> None:
    forged = signed(document(status="crashed"), key=bytes(32))
    stream = (
        b"PASSED\r\n" + forged + REPORT + b"00 !!\n" + signed(document(status="timeout")) + signed(document())
    )
    found = opened(stream, KEY)
    assert found is not None
    assert found.status == "timeout"
    assert opened(forged, KEY) is None


@given(found=ANY_JSON)
def test_any_signed_json_is_decided_and_never_passed(found: object) -> None:
    report = opened(signed(found), KEY)
    assert decide(report, expected=IDS, canary=CANARY).status != "passed"


@given(
    inner=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("items", "canaries", "reports", "errors"), ANY_JSON)
    )
)
def test_any_inner_report_is_decided(inner: dict[str, Any]) -> None:
    status, _ = verdict(document(report=inner))
    assert status == "passed" if not inner else status in ("passed", "failed", "broken")


@given(noise=st.binary(max_size=300))
def test_noise_is_no_report(noise: bytes) -> None:
    assert opened(noise, KEY) is None
    assert opened(REPORT + noise, KEY) is None
