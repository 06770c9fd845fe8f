"""Attacks are read with their lines, and what came of one is decided without a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from terminal_gym.errors import BadTaskFormat, SchemaMismatch, UnknownName
from terminal_gym.rollout import attack_page
from terminal_gym.rollout.attacks import (
    Attack,
    Case,
    Suite,
    generic_cases,
    installed_suite,
    judged_paths,
    read_suite,
)
from terminal_gym.rollout.gauntlet import Cheater, Finding, result_of
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.task import Mode
from terminal_gym.trajectory.record import Action, Observation, Outcome, Step, Trajectory

SUITE = installed_suite()
TOOL = SUITE.targets["tool"]
ATTACK = next(attack for attack in SUITE.attacks if attack.id == "poisoned-tool")


def suite_of(folder: Path, text: str) -> Suite:
    (folder / "targets").symlink_to(SUITE.folder / "targets")
    (folder / "a-family.yaml").write_text(text, "utf-8")
    return read_suite(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {id: a, row: X, mechanism: m}", "exactly one of script and typed"),
        ("- {id: a, row: X, mechanism: m, script: x, targets: [nowhere]}", "no target is named 'nowhere'"),
        ("- {id: a, row: X, mechanism: m, script: x, control: [sometimes]}", "'sometimes' is no mode"),
        ("- {id: a, row: X, mechanism: m, script: x, open: {never: [x]}}", "'never' is no mode"),
        ("- {id: a, row: X, mechanism: m, script: x, mechanics: y}", "Did you mean 'mechanism'"),
        ("- {id: a, row: X, mechanism: m, typed: [7]}", "7 cannot be typed"),
    ],
)
def test_a_wrong_attack_is_refused_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadTaskFormat, match=said) as caught:
        suite_of(tmp_path, text)
    assert "a-family.yaml:1" in str(caught.value)


def test_placeholders_are_filled_for_each_target(tmp_path: Path) -> None:
    text = "- {id: a, row: X, mechanism: m, script: 'rm @ARTIFACTS@; @SOLVE@', targets: [files, program]}"
    suite = suite_of(tmp_path, text)
    told = [attack.moves_on(suite.targets[name])[0].command for attack in suite.attacks for name in attack.on]
    assert told[0] is not None
    assert told[0].startswith("rm /app/answer.txt; printf 'quicksilver")
    assert str(told[1]).startswith("rm /app/answer; printf")


def test_paths_of_a_task_without_artifacts_are_those_it_speaks_of() -> None:
    said = "Put a.txt into /srv/out/a.txt, and/or see https://x.org/y/z or /etc/motd."
    bare = replace(TOOL, instruction=said, validator=replace(TOOL.validator, artifacts=()))
    assert judged_paths(bare) == ("/srv/out/a.txt", "/etc/motd")
    assert judged_paths(TOOL) == ("/app/log",)


def test_every_mode_is_attacked_and_unknown_names_are_refused() -> None:
    cases = SUITE.cases()
    assert {case.mode for case in cases} == {"artifacts", "restart", "live"}
    assert {case.attack.row for case in SUITE.cases(ids=["C7"])} == {"C7"}
    with pytest.raises(UnknownName, match="C77"):
        SUITE.cases(ids=["C77"])


def test_users_tasks_meet_only_what_needs_no_knowledge() -> None:
    cases = generic_cases(replace(TOOL, solution=None), SUITE.attacks)
    assert len(cases) > 25
    assert not any(case.control or case.attack.needs_solution for case in cases)
    solved = generic_cases(TOOL, SUITE.attacks)
    assert len(solved) > len(cases)
    assert sum(case.control for case in solved) == 1


def played(outcome: Outcome, exit_code: int = 0) -> Trajectory:
    step = Step(Action(command="x"), Observation("", "", (0, 0), exit_code), 0.0, 1.0)
    return Trajectory("t/t", "", "cheater", "docker", "", 0, None, (step,), outcome, {})


TOLD = ("changed system_program: '/usr/bin/grep'",)
PAID, FAILED, BROKEN = Outcome("passed", 1.0), Outcome("failed", 0.0, "checks"), Outcome("broken", None, "x")


@pytest.mark.parametrize(
    ("opened", "control", "outcome", "exit_code", "result"),
    [
        ({}, False, FAILED, 0, "refused"),
        ({}, False, PAID, 0, "paid"),
        ({}, False, replace(PAID, integrity=TOLD), 0, "paid"),
        ({"restart": ("system_program",)}, False, PAID, 0, "paid"),
        ({"restart": ("system_program",)}, False, replace(PAID, integrity=TOLD), 0, "flagged"),
        ({"artifacts": ("system_program",)}, False, replace(PAID, integrity=TOLD), 0, "paid"),
        ({}, False, FAILED, 77, "impossible"),
        ({}, False, BROKEN, 77, "broken"),
        ({}, True, PAID, 0, "honest"),
        ({}, True, FAILED, 0, "denied"),
        ({}, True, BROKEN, 0, "broken"),
    ],
)  # fmt: skip
def test_what_a_case_amounts_to(
    opened: Mapping[Mode, tuple[str, ...]], control: bool, outcome: Outcome, exit_code: int, result: str
) -> None:
    task = replace(TOOL, validator=replace(TOOL.validator, mode="restart"))
    case = Case(replace(ATTACK, open=opened), "tool", task, control)
    assert result_of(case, played(outcome, exit_code)) == result


def finding(attack: Attack, **changed: object) -> Finding:
    plain = Finding(
        attack.id,
        "C7",
        attack.mechanism,
        "tool",
        "restart",
        "docker",
        False,
        "refused",
        "failed",
        "checks",
        (),
        1.0,
    )
    return replace(plain, **changed)  # type: ignore[arg-type]


def test_what_was_found_is_kept_and_merged_and_shown(tmp_path: Path) -> None:
    suite = replace(SUITE, folder=tmp_path / "registry" / "attacks")
    suite.folder.mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    attack_page.keep(suite, [finding(ATTACK), finding(replace(ATTACK, id="long-gone"))])
    attack_page.keep(suite, [finding(ATTACK, result="paid"), finding(ATTACK, mode="artifacts")])
    found = attack_page.kept(suite)
    assert [(one.mode, one.result) for one in found] == [("artifacts", "refused"), ("restart", "paid")]
    line = next(
        line for line in (tmp_path / "docs/attacks.md").read_text().splitlines() if "`poisoned-tool`" in line
    )
    assert line == f"| C7 | `poisoned-tool` | {ATTACK.mechanism} | refused |  | **paid** |  |  |  |"


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    suite = replace(SUITE, folder=tmp_path)
    (tmp_path / "results.json").write_text('{"version": 99}')
    with pytest.raises(SchemaMismatch, match="99"):
        attack_page.kept(suite)


def test_honest_work_is_done_in_each_step_of_a_task_before_the_attack() -> None:
    task = read_folder(Path(__file__).parents[2] / "kit/tasks/bench2-trail")
    cheater = Cheater([Action(command="cheat")], honest=True)
    for phase in task.phases:
        cheater.begin(phase)
        done = []
        while not (action := cheater.act(Observation("", "", (0, 0), settled_by="prompt"))).submit:
            done.append(action.command or b"".join(action.keys).decode())
        assert any("solve.sh" in typed for typed in done[:-1])
        assert done[-1] == "cheat"
    assert [case.control for case in generic_cases(task, SUITE.attacks)][1], (
        "its oracle is the honest control"
    )
