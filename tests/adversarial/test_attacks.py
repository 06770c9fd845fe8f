"""Agents that type attacks instead of solving: none of them is paid, and where the work is done too, it is.

The fast slice is played in every run; the whole, with TGYM_AUDIT=whole in the environment, takes an hour. What it last
found is committed: every case on both runtimes, nothing paid that is not flagged, nothing broken.
"""

from __future__ import annotations

import os

import pytest

from terminal_gym.rollout import attack_page
from terminal_gym.rollout.attacks import NOTHING, Case, installed_suite
from terminal_gym.rollout.gauntlet import play
from terminal_gym.sandbox.base import Runtime

SUITE = installed_suite()
FAST = SUITE.cases(fast=True)
_FAST_NAMES = {(case.attack.id, case.target, case.mode, case.control) for case in FAST}
WHOLE = [
    case
    for case in SUITE.cases()
    if (case.attack.id, case.target, case.mode, case.control) not in _FAST_NAMES
]

here = pytest.mark.parametrize(
    "any_runtime",
    [pytest.param("docker", marks=pytest.mark.docker), "namespace"],
    indirect=True,
)


def named(case: Case) -> str:
    return f"{case.attack.id}-{case.target}-{case.mode}{'-honest' if case.control else ''}"


def check(case: Case, runtime: Runtime) -> None:
    runtime.build(case.task.image)
    found = play(case, runtime)
    assert found.is_as_required, f"{case.attack.mechanism}: {found}"


@here
@pytest.mark.parametrize("case", FAST, ids=named)
def test_a_cheat_is_refused_and_honest_work_is_paid(any_runtime: Runtime, case: Case) -> None:
    check(case, any_runtime)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("TGYM_AUDIT") != "whole", reason="an hour; set TGYM_AUDIT=whole")
@here
@pytest.mark.parametrize("case", WHOLE if os.environ.get("TGYM_AUDIT") == "whole" else WHOLE[:1], ids=named)
def test_the_whole_suite(any_runtime: Runtime, case: Case) -> None:
    check(case, any_runtime)


def test_what_was_last_found_held() -> None:
    found = attack_page.kept(SUITE)
    wanted = {key for case in SUITE.cases() for key in attack_page.keys_of(case)}
    assert {one.key for one in found} == wanted, (
        "play what is new: tgym audit --suite --all-runtimes --write --missing"
    )
    assert not (bad := [one for one in found if not one.is_as_required]), bad[:5]


def test_the_page_is_made_of_what_was_found() -> None:
    page = SUITE.folder.parents[1] / "docs" / "attacks.md"
    assert page.read_text("utf-8") == attack_page.page(SUITE, attack_page.kept(SUITE))


def test_the_mode_for_new_tasks_has_no_hole_but_what_tests_open_themselves() -> None:
    for attack in SUITE.attacks:
        assert set(attack.open.get("artifacts", ())) <= {"in_process"}, attack.id


def test_every_hole_is_named_in_the_docs() -> None:
    docs = (SUITE.folder.parents[1] / "docs" / "sandboxing.md").read_text("utf-8")
    kinds = {kind for attack in SUITE.attacks for flags in attack.open.values() for kind in flags}
    assert kinds
    assert not [kind for kind in sorted(kinds) if f"`{kind}`" not in docs]


def test_ids_are_unique_and_every_attack_is_told_in_one_line() -> None:
    ids = [attack.id for attack in SUITE.attacks]
    assert len(ids) == len(set(ids))
    assert all("\n" not in attack.mechanism and "|" not in attack.mechanism for attack in SUITE.attacks)
    assert NOTHING.id not in ids
