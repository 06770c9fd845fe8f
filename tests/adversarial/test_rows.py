"""Every row of the acceptance table has a case: an attack of that row, or a test that docs/acceptance.md names."""

from __future__ import annotations

import re
from pathlib import Path

from terminal_gym.rollout.attacks import installed_suite

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "acceptance.md").read_text("utf-8")
LAST = {
    "A": 13,
    "B": 6,
    "C": 13,
    "D": 8,
    "E": 6,
    "F": 10,
    "G": 17,
    "H": 8,
    "I-": 4,
    "J": 11,
    "K": 6,
    "L": 6,
    "M": 4,
}
ROWS = [f"{family}{number}" for family, last in LAST.items() for number in range(1, last + 1)]


def told() -> dict[str, list[str]]:
    """Return row → what the page says that plays it."""
    found: dict[str, list[str]] = {}
    for first, last, cases in re.findall(
        r"^\| ([A-M]-?\d+)(?:\u2013[A-M](\d+))? \|.*?\| (.*) \|$", PAGE, re.M
    ):
        family, begin = re.fullmatch(r"([A-M]-?)(\d+)", first).groups()  # type: ignore[union-attr]
        for number in range(int(begin), int(last or begin) + 1):
            found[f"{family}{number}"] = re.findall(r"`([^`]+)`", cases)
    return found


def test_every_row_has_a_case() -> None:
    attacked = {attack.row for attack in installed_suite().attacks}
    assert not [row for row in ROWS if row not in attacked and not told().get(row)]
    assert not [row for row in (*attacked, *told()) if row not in (*ROWS, "X")]


def test_every_case_that_is_named_is_there() -> None:
    named = {case for cases in told().values() for case in cases if "::" in case}
    assert len(named) > 70
    for case in named:
        file, _, function = case.partition("::")
        body = (TESTS / file).read_text("utf-8")
        assert re.search(rf"^(def {function}\(|{function} = )", body, re.M), case
