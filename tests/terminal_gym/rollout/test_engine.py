"""The engine on shells of this machine: what it bounds, what it retries, what it stores, and how it stops."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit.fake_runtime import FakeRuntime, FileValidator
from kit.folders import task_folder

from terminal_gym.errors import (
    AccessDenied,
    ContextFull,
    DiskFull,
    ProviderDown,
    RuntimeUnavailable,
    SandboxLost,
    StartFailed,
    StoreError,
    ValidatorBroken,
)
from terminal_gym.rollout.engine import Bounds, Engine
from terminal_gym.rollout.images import ImageShelf
from terminal_gym.rollout.place import Here
from terminal_gym.rollout.plan import Retries, remaining
from terminal_gym.sandbox.base import Image, Runtime, Sandbox
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Limits, Task
from terminal_gym.trajectory.record import Action, Observation
from terminal_gym.trajectory.store import Run, RunWriter
from terminal_gym.validation.verdict import Verdict

QUICK = Retries(first_pause_s=0.01)
SOLVE, WRONG = Action(keys=(b"touch out.txt\n",)), Action(keys=(b"true\n",))


class Plays:
    """Plays actions, then submits; `think` is called with the step's number before each."""

    name = "plays"

    def __init__(self, *actions: Action, think: Callable[[int], None] = lambda step: None):
        self._actions, self._think, self._step = actions, think, 0

    def begin(self, task: Task) -> None:
        self._step = 0

    def act(self, seen: Observation) -> Action:
        self._step += 1
        self._think(self._step)
        return self._actions[self._step - 1] if self._step <= len(self._actions) else Action(submit=True)


class Stage:
    """Everything an engine needs; what it left behind is checked at the end."""

    def __init__(self, root: Path):
        self.root, self.runtime = root, FakeRuntime()
        self.runtimes, self.places = [self.runtime], list[Here]()
        self.limits = Limits(agent_s=30.0, verifier_s=5.0)

    def tasks(self, *names: str) -> dict[str, Task]:
        found = [read_folder(task_folder(self.root, name=name)) for name in names]
        return {str(task.ref): replace(task, limits=self.limits) for task in found}

    def writer(self) -> RunWriter:
        return RunWriter(self.root / "run", {})

    def run(
        self, tasks: dict[str, Task], agent: Callable[[], Plays], *, attempts: int = 1, **settings: object
    ) -> Run:
        with self.writer() as writer:
            engine = self.engine(tasks, agent, writer, **settings)
            try:
                engine.run(remaining(tasks, attempts=attempts, done=set(writer.standing)))
            finally:
                self.close()
        return self.stored()

    def close(self) -> None:
        for place in self.places:
            place.close()

    def engine(
        self, tasks: dict[str, Task], agent: Callable[[], Plays], writer: RunWriter, **settings: object
    ) -> Engine:
        settings = {"retries": QUICK} | settings
        bounds = settings.get("bounds", Bounds())
        judge = settings.pop("validator", FileValidator())
        places = [self.place(runtime, tasks, agent, bounds, judge) for runtime in self.runtimes]
        return Engine(tasks=tasks, places=places, writer=writer, agent="plays", **settings)  # type: ignore[arg-type]

    def place(
        self, runtime: FakeRuntime, tasks: dict[str, Task], agent: object, bounds: Any, judge: Any
    ) -> Here:
        starts, verifications = bounds.starts, bounds.verifications
        place = Here(
            runtime,  # type: ignore[arg-type]
            tasks=tasks,
            make_agent=lambda seed: agent(),  # type: ignore[operator]
            starts=starts,
            verifications=verifications,
            validator=judge,
            name=runtime.name if len(self.runtimes) > 1 else "",
        )
        self.places.append(place)
        return place

    def stored(self) -> Run:
        return Run(self.root / "run")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()
    until = time.monotonic() + 10.0
    while (
        any(runtime.held for runtime in stage.runtimes) and time.monotonic() < until
    ):  # an abandoned thread may still be closing its own
        threading.Event().wait(0.02)
    assert not [runtime.held for runtime in stage.runtimes if runtime.held]


def test_every_attempt_is_played_and_stored(stage: Stage) -> None:
    tasks = stage.tasks("a", "b", "c")
    run = stage.run(tasks, lambda: Plays(SOLVE), attempts=3, seed=1, model="m", versions={"x": "1"})
    assert sorted(run.standing) == [(ref, k) for ref in sorted(tasks) for k in range(3)]
    assert {row.status for row in run.rows} == {"passed"}
    played = list(run)
    assert len({one.seed for one in played}) == 9
    assert {(one.model, one.instruction) for one in played} == {("m", "Write /app/out.txt.")}
    assert all(one.frames for one in played)
    assert all(one.versions == {"x": "1"} for one in played)


def test_what_was_done_is_not_done_again(stage: Stage) -> None:
    tasks = stage.tasks("a", "b")
    stage.run(tasks, lambda: Plays(SOLVE))
    started = stage.runtime.started
    run = stage.run(tasks, lambda: Plays(SOLVE), attempts=2)
    assert stage.runtime.started == started + 2
    assert len(run) == 4
    stage.run(tasks, lambda: Plays(SOLVE), attempts=2)
    assert stage.runtime.started == started + 2


class _Most:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.now, self.most, self._mutex = 0, 0, threading.Lock()

    def __enter__(self) -> None:
        with self._mutex:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            self.now -= 1


class _Counting(FileValidator):
    def __init__(self, inside: _Most):
        self._inside = inside

    def judge(self, sandbox: Sandbox, task: Task, *, runtime: Runtime) -> Verdict:
        with self._inside:
            return super().judge(sandbox, task, runtime=runtime)


def test_the_bounds_hold(stage: Stage) -> None:
    episodes, starts, verdicts = _Most(), _Most(), _Most()

    def fault(method: str) -> None:
        if method == "boot":
            with starts:
                threading.Event().wait(0.02)

    def think(step: int) -> None:
        with episodes:
            threading.Event().wait(0.02)

    stage.runtime.fault = fault
    bounds = Bounds(episodes=5, starts=2, verifications=1, ahead=2)
    agent = lambda: Plays(SOLVE, think=think)  # noqa: E731
    run = stage.run(stage.tasks(*"abcd"), agent, attempts=5, bounds=bounds, validator=_Counting(verdicts))
    assert Counter(row.status for row in run.rows) == {"passed": 20}
    assert 1 < episodes.most <= 5
    assert starts.most == 2
    assert verdicts.most == 1


# ── faults ──────────────────────────────────────────────────────────────────────────────────────


def _failing(error: Exception, times: int, method: str = "boot") -> Callable[[str], None]:
    left, mutex = iter([True] * times), threading.Lock()

    def fault(asked: str) -> None:
        if asked == method:
            with mutex:
                fails = next(left, False)
            if fails:
                raise error

    return fault


COLD = Bounds(ahead=0)


def test_a_machine_fault_is_retried_and_told(stage: Stage) -> None:
    stage.runtime.fault = _failing(StartFailed("no memory"), 2)
    (played,) = stage.run(stage.tasks("a"), lambda: Plays(SOLVE), bounds=COLD)
    assert played.outcome.status == "passed"
    assert played.failures == ("StartFailed: no memory",) * 2


def test_a_machine_that_stays_broken_gives_no_reward(stage: Stage) -> None:
    stage.runtime.fault = _failing(StartFailed("no memory"), 100)
    (played,) = stage.run(stage.tasks("a"), lambda: Plays(SOLVE), bounds=COLD)
    assert (played.outcome.status, played.outcome.reward) == ("broken", None)
    assert len(played.failures) == 2


class _BadTests:
    def judge(self, sandbox: Sandbox, task: Task, *, runtime: Runtime) -> Verdict:
        sandbox.stop()
        raise ValidatorBroken("its tests do not compile")


def test_a_broken_task_is_quarantined(stage: Stage) -> None:
    run = stage.run(
        stage.tasks("a"), lambda: Plays(SOLVE), attempts=5, bounds=Bounds(episodes=1), validator=_BadTests()
    )
    assert len(run) == 5
    assert {row.status for row in run.rows} == {"broken"}
    assert sum("quarantined" in row.reason for row in run.rows) == 4
    assert stage.runtime.started <= 3  # and what was started ahead


def test_a_provider_that_is_down_is_asked_again(stage: Stage) -> None:
    left = iter([True, True])

    def think(step: int) -> None:
        if next(left, False):
            raise ProviderDown("503")

    (played,) = stage.run(stage.tasks("a"), lambda: Plays(SOLVE, think=think), bounds=COLD)
    assert played.outcome.status == "passed"
    assert played.failures == ("ProviderDown: 503",) * 2


def test_a_full_context_ends_the_episode_and_is_judged(stage: Stage) -> None:
    def think(step: int) -> None:
        if step == 2:
            raise ContextFull("40,000 tokens of 32,768")

    (played,) = stage.run(stage.tasks("a"), lambda: Plays(SOLVE, WRONG, think=think))
    assert played.outcome.status == "passed"
    assert played.limit == "ContextFull: 40,000 tokens of 32,768"


def test_a_refused_key_stops_the_run(stage: Stage) -> None:
    def think(step: int) -> None:
        raise AccessDenied("the key was refused")

    with pytest.raises(AccessDenied):
        stage.run(stage.tasks(*"abcd"), lambda: Plays(SOLVE, think=think), attempts=5)
    assert len(stage.stored()) == 0


def test_a_full_disk_stops_the_run(stage: Stage) -> None:
    class Full(RunWriter):
        def append(self, played: object) -> object:  # type: ignore[override]
            raise DiskFull("no room")

    with Full(stage.root / "run", {}) as writer:
        tasks = stage.tasks(*"abcd")
        engine = stage.engine(tasks, lambda: Plays(SOLVE), writer)
        with pytest.raises(StoreError):
            engine.run(remaining(tasks, attempts=5, done=set()))
    assert stage.runtime.started < 20


def test_a_crash_breaks_one_attempt_and_the_rest_goes_on(stage: Stage) -> None:
    left = iter([True] * 3)

    def think(step: int) -> None:
        if next(left, False):
            raise KeyError("a hole in our own code")

    run = stage.run(
        stage.tasks("a"), lambda: Plays(SOLVE, think=think), attempts=4, bounds=Bounds(1, ahead=0)
    )
    assert [row.status for row in run.rows] == ["broken", "passed", "passed", "passed"]
    assert "a hole in our own code' (test_engine.py:" in run.rows[0].reason
    assert run.rows[0].reward is None


def test_crashes_without_end_stop_the_run(stage: Stage) -> None:
    def think(step: int) -> None:
        raise KeyError("no accident")

    with pytest.raises(KeyError, match="no accident"):
        stage.run(
            stage.tasks("a"), lambda: Plays(SOLVE, think=think), attempts=100, bounds=Bounds(1, ahead=0)
        )
    assert stage.runtime.started < 20


# ── deadlines ───────────────────────────────────────────────────────────────────────────────────


def test_an_agent_that_hangs_is_judged_when_its_time_is_up(stage: Stage) -> None:
    stage.limits = replace(stage.limits, agent_s=0.5)
    hangs = threading.Event()

    def think(step: int) -> None:
        if step == 2:
            hangs.wait()

    try:
        (played,) = stage.run(stage.tasks("a"), lambda: Plays(SOLVE, WRONG, think=think))
    finally:
        hangs.set()
    assert played.outcome.status == "passed"
    assert played.limit == "the limit of 0.5 s"


def test_a_machine_that_hangs_is_abandoned_and_the_others_go_on(stage: Stage) -> None:
    stage.limits = Limits(agent_s=0.3, verifier_s=0.1)
    hangs, first = threading.Event(), iter([True])

    def fault(method: str) -> None:
        if method == "boot" and next(first, False):
            hangs.wait()

    stage.runtime.fault = fault
    bounds = Bounds(episodes=1, starts=2, ahead=0, grace_s=0.5)
    began = time.monotonic()
    try:
        run = stage.run(stage.tasks(*"abc"), lambda: Plays(SOLVE), bounds=bounds)
    finally:
        hangs.set()
    assert time.monotonic() - began < 20.0
    assert Counter(row.status for row in run.rows) == {"passed": 2, "broken": 1}
    (broken,) = [row for row in run.rows if row.status == "broken"]
    assert "still under way at its deadline" in broken.reason
    assert broken.reward is None


# ── stopping ────────────────────────────────────────────────────────────────────────────────────


def test_finish_lets_what_runs_end(stage: Stage) -> None:
    tasks = stage.tasks(*"abcd")
    with stage.writer() as writer:
        engine = stage.engine(
            tasks, lambda: Plays(SOLVE, think=lambda step: engine.finish()), writer, bounds=Bounds(episodes=2)
        )
        engine.run(remaining(tasks, attempts=5, done=set()))
    assert 1 <= len(stage.stored()) <= 2
    assert {row.status for row in stage.stored().rows} == {"passed"}


def test_abort_removes_what_runs_and_records_nothing_of_it(stage: Stage) -> None:
    tasks = stage.tasks(*"abcd")
    playing, thinks_on = threading.Barrier(3), threading.Event()

    def think(step: int) -> None:
        playing.wait(20)
        thinks_on.wait()

    with stage.writer() as writer:
        engine = stage.engine(tasks, lambda: Plays(SOLVE, think=think), writer, bounds=Bounds(episodes=2))
        running = threading.Thread(target=engine.run, args=[remaining(tasks, attempts=2, done=set())])
        running.start()
        playing.wait(20)
        engine.abort()
        thinks_on.set()
        running.join(20)
    assert not running.is_alive()
    assert len(stage.stored()) == 0
    again = stage.run(tasks, lambda: Plays(SOLVE), attempts=2)
    assert len(again) == 8


def test_abort_removes_what_is_only_starting(stage: Stage) -> None:
    """One episode plays, the other's sandbox is not there yet: both are gone, and neither is on record."""
    tasks = stage.tasks(*"ab")
    plays, thinks_on, boots, boots_on = (threading.Event() for _ in range(4))
    first, thought = iter([True]), list[int]()

    def fault(method: str) -> None:
        if method == "boot" and not next(first, False):
            boots.set()
            boots_on.wait(20)

    def think(step: int) -> None:
        thought.append(step)
        plays.set()
        thinks_on.wait(20)

    stage.runtime.fault = fault
    with stage.writer() as writer:
        bounds = Bounds(episodes=2, starts=2, ahead=0)
        engine = stage.engine(tasks, lambda: Plays(SOLVE, think=think), writer, bounds=bounds)
        running = threading.Thread(target=engine.run, args=[remaining(tasks, attempts=1, done=set())])
        running.start()
        assert plays.wait(20)
        assert boots.wait(20)
        engine.abort()
        boots_on.set()
        thinks_on.set()
        running.join(20)
    assert not running.is_alive()
    assert thought == [1], "it was played though nobody wanted it any more"
    assert not stage.runtime.held
    assert len(stage.stored()) == 0


def test_sixty_four_at_once(stage: Stage) -> None:
    bounds = Bounds(episodes=64, starts=4, verifications=4)
    run = stage.run(stage.tasks(*"abcdefgh"), lambda: Plays(SOLVE), attempts=8, bounds=bounds)
    assert Counter(row.status for row in run.rows) == {"passed": 64}


# ── several places ──────────────────────────────────────────────────────────────────────────────


class Mortal:
    """Lets a fake runtime die and come back: whatever is asked of it meanwhile fails, and its shells are gone."""

    def __init__(self, runtime: FakeRuntime):
        self.runtime, self.is_dead = runtime, threading.Event()
        runtime.fault = self.fault

    def fault(self, method: str) -> None:
        if self.is_dead.is_set():
            raise RuntimeUnavailable(f"{self.runtime.name} does not answer ({method})")

    def die(self) -> None:
        self.is_dead.set()
        for sandbox in list(self.runtime.held):
            sandbox.lose()


def _two(stage: Stage) -> tuple[Mortal, Mortal]:
    stage.runtimes = [FakeRuntime(name="one"), FakeRuntime(name="two")]
    return Mortal(stage.runtimes[0]), Mortal(stage.runtimes[1])


def test_episodes_are_spread_over_the_places(stage: Stage) -> None:
    _two(stage)
    run = stage.run(stage.tasks(*"abcd"), lambda: Plays(SOLVE), attempts=4, bounds=Bounds(episodes=4))
    played = Counter(one.versions["place"] for one in run)
    assert played["one"] + played["two"] == 16
    assert min(played.values()) >= 4


def test_a_place_that_dies_is_taken_out_and_its_episodes_are_played_elsewhere(stage: Stage) -> None:
    one, _ = _two(stage)
    playing = threading.Barrier(4)
    first, mutex = iter(range(4)), threading.Lock()

    def think(step: int) -> None:
        with mutex:
            number = next(first, None)
        if number is None:
            return
        playing.wait(20)
        if number == 0:
            one.die()
        assert one.is_dead.wait(20)

    tasks = stage.tasks(*"abcd")
    bounds, retries = Bounds(episodes=4, ahead=0), Retries(machine=0)
    run = stage.run(tasks, lambda: Plays(SOLVE, think=think), attempts=4, bounds=bounds, retries=retries)
    assert Counter(row.status for row in run.rows) == {"passed": 16}
    moved = [played for played in run if played.failures]
    assert moved
    assert {played.versions["place"] for played in run} == {"two"}
    assert all(
        "one does not answer" in played.failures[0] or "Lost" in played.failures[0] for played in moved
    )


def test_a_place_that_comes_back_is_used_again(stage: Stage) -> None:
    one, _ = _two(stage)
    one.die()
    logs: list[str] = []
    ended = iter(range(100))

    def think(step: int) -> None:
        if next(ended) == 6:
            one.is_dead.clear()

    class Waits(FileValidator):
        """Judges slowly while the other place is away, so that there is something left to play when it is back."""

        def judge(self, sandbox: Sandbox, task: Task, *, runtime: Runtime) -> Verdict:
            threading.Event().wait(0.0 if "one answers again" in logs else 0.1)
            return super().judge(sandbox, task, runtime=runtime)

    bounds = Bounds(episodes=2, ahead=0)
    agent = lambda: Plays(SOLVE, think=think)  # noqa: E731
    run = stage.run(
        stage.tasks(*"abcd"), agent, attempts=12, bounds=bounds, log=logs.append, validator=Waits()
    )
    assert Counter(row.status for row in run.rows) == {"passed": 48}
    assert {played.versions["place"] for played in run} == {"one", "two"}
    assert [line.split(":")[0] for line in logs] == ["one is taken out", "one answers again"]


def test_when_no_place_answers_the_run_waits_and_then_stops_and_goes_on_later(stage: Stage) -> None:
    one, two = _two(stage)

    def think(step: int) -> None:
        one.die()
        two.die()

    tasks, bounds = stage.tasks(*"ab"), Bounds(episodes=2, ahead=0, patience_s=0.3)
    with pytest.raises(RuntimeUnavailable, match="one, two: no answer for 0 s"):
        stage.run(tasks, lambda: Plays(SOLVE, think=think), attempts=2, bounds=bounds)
    assert len(stage.stored()) == 0, "an outage was put on record"
    one.is_dead.clear()
    run = stage.run(tasks, lambda: Plays(SOLVE), attempts=2, bounds=Bounds(episodes=2, ahead=0))
    assert Counter(row.status for row in run.rows) == {"passed": 4}


def test_a_single_place_that_is_away_for_a_while_breaks_nothing(stage: Stage) -> None:
    mortal = Mortal(stage.runtime)
    back = threading.Timer(0.5, mortal.is_dead.clear)
    once = iter([True])

    def think(step: int) -> None:
        if next(once, False):
            mortal.die()
            back.start()

    bounds, retries = Bounds(episodes=2, ahead=0), Retries(machine=0)
    run = stage.run(
        stage.tasks(*"ab"), lambda: Plays(SOLVE, think=think), attempts=3, bounds=bounds, retries=retries
    )
    assert Counter(row.status for row in run.rows) == {"passed": 6}
    assert any(played.failures for played in run)


def test_a_place_that_loses_every_sandbox_and_still_answers_counts_as_a_fault(stage: Stage) -> None:
    stage.runtime.fault = _failing(SandboxLost("gone"), 100)
    (played,) = stage.run(stage.tasks("a"), lambda: Plays(SOLVE), bounds=COLD)
    assert played.outcome.status == "broken"
    assert len(played.failures) == QUICK.machine


def test_an_image_that_takes_long_to_make_takes_none_of_the_episode_s_time(stage: Stage) -> None:
    stage.limits = Limits(agent_s=0.3, verifier_s=0.1)
    tasks = stage.tasks("a")

    class Slow(ImageShelf):
        @contextlib.contextmanager
        def lend(self, recipe: ImageRecipe) -> Iterator[Image]:
            threading.Event().wait(1.5)
            with super().lend(recipe) as image:
                yield image

    place = Here(
        stage.runtime,  # type: ignore[arg-type]
        tasks=tasks,
        make_agent=lambda seed: Plays(SOLVE),
        validator=FileValidator(),
        shelf=Slow(stage.runtime, []),  # type: ignore[arg-type]
    )
    stage.places.append(place)
    with stage.writer() as writer:
        bounds = Bounds(grace_s=0.8, ahead=0)
        engine = Engine(tasks=tasks, places=[place], writer=writer, agent="plays", bounds=bounds)
        engine.run(remaining(tasks, attempts=1, done=set()))
    assert [row.status for row in stage.stored().rows] == ["passed"]
