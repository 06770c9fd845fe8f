"""The sixteen tasks that ship: complete, clean, as docs/catalogue.md promises, and sound where Docker can show it."""

import json
import re
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from env_registry.builtin import catalogue
from terminal_gym.errors import RuntimeUnavailable
from terminal_gym.rollout.gate import WANTED, check_task
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.tasks.catalogue import Catalogue
from terminal_gym.tasks.lint import lint
from terminal_gym.tasks.task import Task

IDS = sorted(Catalogue(catalogue).rows)
NAMES = [id.partition("/")[2] for id in IDS]
DOMAINS = {"data", "build", "git", "databases", "ws", "systems", "interactive", "qemu"}
PAGE = Path(__file__).parents[2] / "docs" / "catalogue.md"


def task_of(name: str) -> Task:
    return Catalogue(catalogue).task(f"TerminalTraj/{name}")


def test_two_tasks_in_each_of_eight_domains() -> None:
    domains = Counter(task_of(name).metadata["domain"] for name in NAMES)
    assert domains == dict.fromkeys(DOMAINS, 2)


def test_every_folder_is_in_the_index() -> None:
    folders = sorted(path.parent.name for path in catalogue.glob("*/task.yaml"))
    assert folders == NAMES


def test_easy_to_hard() -> None:
    assert {task_of(name).metadata["difficulty"] for name in NAMES} == {"easy", "medium", "hard"}


def test_many_need_many_interactions() -> None:
    keyed = [task.solution for task in map(task_of, NAMES) if task.solution and task.solution.keystrokes]
    assert sum(len(solution.keystrokes) >= 10 for solution in keyed) >= 6


def test_two_leave_a_service_running() -> None:
    assert [name for name in NAMES if task_of(name).validator.mode == "live"] == [
        "lending-library",
        "post-office",
    ]


def test_enough_easy_ones_run_on_a_bare_machine() -> None:
    bare = [task for task in map(task_of, NAMES) if task.image.host_allowed]
    assert sum(task.metadata["difficulty"] == "easy" for task in bare) >= 5
    for task in bare:
        dockerfile = (task.folder / "Dockerfile").read_text("utf-8")
        second = re.split(r"^FROM base$", dockerfile, flags=re.M)[1]
        assert set(re.findall(r"^[A-Z]+", second, re.M)) == {"WORKDIR", "COPY"}


def test_few_base_stages() -> None:
    stages = {
        (catalogue / name / "Dockerfile").read_text("utf-8").partition("\nFROM base\n")[0] for name in NAMES
    }
    assert len(stages) <= 4
    assert all(stage.startswith("FROM debian:bookworm AS base\n") for stage in stages)


def test_the_page_has_a_row_for_each() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (\w+) \| (\w+) \| (\w+) \| .+ \| (\w+) \| (yes|) *\|$",
        PAGE.read_text("utf-8"),
        re.M,
    )
    assert sorted(row[0] for row in rows) == NAMES
    for name, domain, difficulty, mode, entries, bare in rows:
        task = task_of(name)
        assert task.solution is not None
        keyed = task.solution.keystrokes
        assert (domain, difficulty) == (task.metadata["domain"], task.metadata["difficulty"])
        assert (mode, bare == "yes") == (task.validator.mode, task.image.host_allowed)
        assert entries == (str(len(keyed)) if keyed else "script")


@pytest.mark.parametrize("name", NAMES)
def test_is_complete_and_clean(name: str) -> None:
    task = task_of(name)
    assert lint(task.folder) == []
    assert task.validator.expected
    assert task.solution is not None
    assert task.partial is not None
    assert not task.limits.network
    assert yaml.safe_load((task.folder / "task.yaml").read_text("utf-8"))["difficulty"] in (
        "easy",
        "medium",
        "hard",
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_record_is_of_this_task_and_valid(name: str) -> None:
    record = json.loads((catalogue / name / "validity.json").read_text("utf-8"))["records"]["docker"]
    assert record["task_hash"] == task_of(name).content_hash(), f"tgym tasks check {name}"
    assert record["valid"]
    played = Counter((attempt["agent"], attempt["status"]) for attempt in record["attempts"])
    assert played == dict.fromkeys(WANTED.items(), 3)


def problems(task: Task, name: str) -> tuple[str, ...]:
    """Build the image where this machine does not hold it, and play the gate once."""
    with closing(open_runtime(name)) as runtime:
        runtime.check()
        runtime.build(task.image)
        return check_task(task, runtime=runtime, date="2026-11-24", repeats=1).problems


@pytest.mark.docker
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_oracle_passes_and_the_others_do_not(name: str) -> None:
    assert problems(task_of(name), "docker") == ()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in NAMES if task_of(name).image.host_allowed])
def test_is_sound_on_this_machine_without_an_image(name: str) -> None:
    task = task_of(name)
    missing = [command for command in task.image.host_commands if shutil.which(command) is None]
    if missing:
        pytest.skip(f"this machine has no {', '.join(missing)}")
    try:
        assert problems(task, "namespace") == ()
    except RuntimeUnavailable as reason:
        pytest.skip(f"no namespace runtime: {reason}")
