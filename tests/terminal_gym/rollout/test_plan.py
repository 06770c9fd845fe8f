from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.folders import task_folder

from terminal_gym.errors import BadSetting
from terminal_gym.rollout.plan import (
    Attempt,
    Blame,
    Retries,
    blame_of,
    next_after,
    overridden,
    remaining,
    seed_of,
)
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.harness import ScriptSpec, TaskStep
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Limits, Task


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    task = read_folder(task_folder(tmp_path_factory.mktemp("plan")))
    images = {"a": "one", "b": "two", "c": "one", "d": "two"}
    return {ref: replace(task, image=ImageRecipe(image, task.folder)) for ref, image in images.items()}


def test_those_of_one_image_come_together(tasks: dict[str, Task]) -> None:
    assert [(attempt.task, attempt.k) for attempt in remaining(tasks, attempts=2, done=set())] == [
        *[("a", 0), ("a", 1), ("c", 0), ("c", 1)],
        *[("b", 0), ("b", 1), ("d", 0), ("d", 1)],
    ]


@given(done=st.sets(st.tuples(st.sampled_from("abcd"), st.integers(0, 5))), attempts=st.integers(1, 4))
def test_what_is_left_and_what_is_done_is_what_was_planned(
    tasks: dict[str, Task], done: set[tuple[str, int]], attempts: int
) -> None:
    planned = set(remaining(tasks, attempts=attempts, done=set()))
    left = remaining(tasks, attempts=attempts, done=done)
    assert len(left) == len(set(left))
    assert set(left) == planned - {Attempt(*key) for key in done}


def test_a_finished_run_plans_nothing(tasks: dict[str, Task]) -> None:
    assert not remaining(tasks, attempts=2, done={(ref, k) for ref in tasks for k in range(2)})


@pytest.mark.parametrize(
    ("reason", "blame"),
    [
        ("ValidatorBroken: no test", "task"),
        ("NoShell: none", "task"),
        ("SandboxLost: gone", "machine"),
        ("ProviderDown: 503", "provider"),
        ("DiskFull: no room", "disk"),
        ("AccessDenied: 401", "caller"),
        ("something else", "machine"),
        ("__doc__: no error at all", "machine"),
        ("", "machine"),
    ],
)
def test_blame(reason: str, blame: Blame) -> None:
    assert blame_of(reason) == blame


def test_what_follows() -> None:
    retries = Retries(machine=2, provider=1, first_pause_s=3.0)
    assert [next_after("machine", tries=tries, retries=retries) for tries in (1, 2, 3)] == [
        "retry",
        "retry",
        "record",
    ]
    assert [next_after("provider", tries=tries, retries=retries) for tries in (1, 2)] == ["retry", "record"]
    assert next_after("task", tries=1, retries=retries) == "quarantine"
    assert (
        next_after("disk", tries=1, retries=retries)
        == next_after("caller", tries=1, retries=retries)
        == "stop"
    )
    assert [retries.pause_s("provider", tries) for tries in (1, 2, 3)] == [3.0, 6.0, 12.0]
    assert retries.pause_s("machine", 1) == 0.0


def test_seeds_are_of_the_attempt() -> None:
    seeds = {seed_of(Attempt(task, k), seed=seed) for task in "ab" for k in range(3) for seed in (0, 1)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_of(Attempt("a", 0), seed=7) == seed_of(Attempt("a", 0), seed=7)


def test_an_override_changes_every_time_and_nothing_else(tasks: dict[str, Task]) -> None:
    script = ScriptSpec("/tests/run-tests.sh", timeout_s=50.0)
    steps = (TaskStep("one", "Do.", script, agent_s=10.0), TaskStep("two", "Do.", script))
    own = replace(tasks["a"], limits=Limits(agent_s=100.0, verifier_s=40.0), script=script, steps=steps)
    assert overridden(own, {}) is own
    told = overridden(own, {"agent_s": 20.0, "multiplier": 3.0})
    assert (told.limits.agent_s, told.limits.verifier_s) == (60.0, 120.0)
    assert [step.agent_s for step in told.steps] == [60.0, None]
    assert {told.script.timeout_s if told.script else 0, *(s.script.timeout_s for s in told.steps)} == {150.0}
    assert replace(told, limits=own.limits, script=own.script, steps=own.steps) == own


@pytest.mark.parametrize(
    "override", [{"agent_s": 0.0}, {"multiplier": float("inf")}, {"memory_mb": 9.0}], ids=str
)
def test_an_override_that_makes_no_sense_is_refused(
    tasks: dict[str, Task], override: dict[str, float]
) -> None:
    with pytest.raises(BadSetting):
        overridden(tasks["a"], override)
