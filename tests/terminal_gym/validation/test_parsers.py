"""Verdict rules of foreign formats, held against what the upstream parsers do with the same text."""

import contextlib
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.tasks.harness import PARSERS, Parser
from terminal_gym.validation.network import missing_network
from terminal_gym.validation.parsers import NoVerdict, parsed, reward_of, rewards, skipped

RECORDED = Path(__file__).parents[2] / "golden" / "parsers.json.gz"
SUMMARY = """\
============ test session starts ============
=========== short test summary info ===========
PASSED ../tests/test_outputs.py::test_a
PASSED ../tests/test_other.py::TestX::test_b[x - y]
SKIPPED [1] ../tests/test_outputs.py:4: no reason
XFAIL ../tests/test_outputs.py::test_c - known
XPASS ../tests/test_outputs.py::test_d
FAILED ../tests/test_outputs.py::test_e[a - b] - assert 1 == 2 - really
ERROR ../tests/test_outputs.py::test_f
DESELECTED ../tests/test_outputs.py::test_g
===== 2 passed in 0.1s =====
"""


def test_the_summary_of_pytest() -> None:
    found = parsed("pytest", SUMMARY)
    assert found["test_a"]
    assert found["TestX::test_b[x - y]"]
    assert found["[1] ../tests/test_outputs.py:4: no reason"], "a skipped test passes upstream"
    assert found["test_c - known"], "and so does an expected failure"
    assert not found["test_d"], "but an unexpected pass fails"
    assert found["test_e[a - b] - assert 1 == 2"] is False, "only the last ` - ` is cut"
    assert not found["test_f"]
    assert len(found) == 7
    assert len(skipped(SUMMARY)) == 3


def test_of_equal_names_the_last_counts() -> None:
    two = "= short test summary info =\nPASSED a.py::test_x\nFAILED b.py::test_x - no\n"
    assert parsed("pytest", two) == {"test_x": False}


@pytest.mark.parametrize(
    "output", ["", "all fine", "= short test summary info =\n", "= short test summary info =\nfoo"]
)
def test_no_summary_or_no_test_in_it_is_an_error(output: str) -> None:
    with pytest.raises(NoVerdict) as caught:
        parsed("pytest", output)
    assert caught.value.error == "parse_error"


@pytest.mark.parametrize(
    ("parser", "output", "passed"),
    [
        ("swebench", "SWEBench results starts here\nPASSED\nSWEBench results ends here", True),
        ("swebench", "SWEBench results starts here\nPASSED maybe\nSWEBench results ends here", False),
        ("swebench", "PASSED", None),
        ("sweperf", "x SWE-Perf results starts here PASSED SWE-Perf results ends here y", True),
        ("sweperf", "SWE-Perf results starts here PASSED", None),
        ("mlebench", "MLEBench results starts here\nALL TESTS PASSED\nMLEBench results ends here", True),
        ("mlebench", "nothing", False),
        ("mlebench", "ALL TESTS PASSED", True),
        ("swelancer", "… SWE Lancer SUCCESS", True),
        ("swelancer", "user_tool completed", True),
        ("swelancer", "user_tool completed, SWE Lancer failure", False),
        ("swelancer", "", False),
    ],
)
def test_the_other_parsers(parser: Parser, output: str, passed: bool | None) -> None:
    if passed is None:
        with pytest.raises(NoVerdict):
            parsed(parser, output)
    else:
        assert list(parsed(parser, output).values()) == [passed]


def test_four_thousand_outputs_are_read_as_the_official_parsers_read_them() -> None:
    """Recorded by tests/golden/record_parsers.py. No test at all is an error with us: upstream calls it solved."""
    told = json.loads(gzip.decompress(RECORDED.read_bytes()))
    assert len(told) == 4000
    assert {one["parser"] for one in told} == set(PARSERS)
    for one in told:
        found: dict[str, bool] | None = None
        with contextlib.suppress(NoVerdict):
            found = parsed(one["parser"], one["text"])
        assert found == (one["found"] or None), one
    kinds = [None if one["found"] is None else all(one["found"].values()) for one in told]
    assert all(kinds.count(kind) > 500 for kind in (None, True, False)), "the outputs tell the rules apart"


@given(st.sampled_from(PARSERS), st.text())
def test_any_output_is_a_verdict_or_an_error(parser: Parser, output: str) -> None:
    with contextlib.suppress(NoVerdict):
        assert parsed(parser, output)


@pytest.mark.parametrize(
    ("as_json", "as_text", "found"),
    [
        (None, b"1\n", {"reward": 1.0}),
        (None, b" 0.25", {"reward": 0.25}),
        (b'{"reward": true, "style": 0.5}', b"0", {"reward": 1.0, "style": 0.5}),
        (b'{"a": 1, "b": 0}', None, {"a": 1.0, "b": 0.0}),
        (None, None, "RewardFileNotFoundError"),
        (None, b"", "RewardFileEmptyError"),
        (None, b"nan", "VerifierOutputParseError"),
        (None, b"1 0", "VerifierOutputParseError"),
        (b"", b"1", "RewardFileEmptyError"),
        (b"{", b"1", "VerifierOutputParseError"),
        (b"{}", b"1", "VerifierOutputParseError"),
        (b"[1]", None, "VerifierOutputParseError"),
        (b'{"reward": "1"}', None, "VerifierOutputParseError"),
        (b'{"reward": NaN}', None, "VerifierOutputParseError"),
        (b'{"reward": 1e309}', None, "VerifierOutputParseError"),
        (b'{"reward": null}', None, "VerifierOutputParseError"),
    ],
)
def test_reward_files(as_json: bytes | None, as_text: bytes | None, found: object) -> None:
    if isinstance(found, str):
        with pytest.raises(NoVerdict) as caught:
            rewards(as_json, as_text)
        assert caught.value.error == found
    else:
        assert rewards(as_json, as_text) == found


def test_one_number_of_many() -> None:
    assert reward_of({"reward": 0.5, "other": 1.0}) == 0.5
    assert reward_of({"a": 1.0, "b": 0.0}) == 0.5


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("curl: (6) Could not resolve host: astral.sh\nuv: command not found\n", True),
        ("E: Failed to fetch http://deb.debian.org/x  Temporary failure resolving 'deb.debian.org'\n", True),
        ("terminal-gym shim: OFFLINE: uv add numpy\n=== test session starts ===\n1 failed\n", True),
        ("curl: (6) Could not resolve host: x\n=== test session starts ===\n1 failed\n", False),
        ("assert 1 == 2\n", False),
        ("bash: line 3: uv: command not found\n", False),
    ],
)
def test_what_shows_that_a_network_was_missing(output: str, shown: bool) -> None:
    assert bool(missing_network(output)) == shown
