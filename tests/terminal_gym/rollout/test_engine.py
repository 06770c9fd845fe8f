"""The engine on shells of this machine: what it bounds, what it retries, what it stores, and how it stops."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kit.fake_runtime import FakeRuntime, FileValidator
from kit.folders import task_folder

from terminal_gym.errors import (
    AccessDenied,
    ContextFull,
    DiskFull,
    ProviderDown,
    StartFailed,
    StoreError,
    ValidatorBroken,
)
from terminal_gym.rollout.engine import Bounds, Engine
from terminal_gym.rollout.plan import Retries, remaining
from terminal_gym.sandbox.base import Runtime, Sandbox
from terminal_gym.tasks.catalogue import read_folder
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
            engine.run(remaining(tasks, attempts=attempts, done=set(writer.standing)))
        return self.stored()

    def engine(
        self, tasks: dict[str, Task], agent: Callable[[], Plays], writer: RunWriter, **settings: object
    ) -> Engine:
        settings = {"validator": FileValidator(), "retries": QUICK} | settings
        return Engine(tasks=tasks, make_agent=agent, runtime=self.runtime, writer=writer, **settings)  # type: ignore[arg-type]

    def stored(self) -> Run:
        return Run(self.root / "run")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    until = time.monotonic() + 10.0
    while stage.runtime.held and time.monotonic() < until:  # an abandoned thread may still be closing its own
        threading.Event().wait(0.02)
    assert not stage.runtime.held


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


def test_sixty_four_at_once(stage: Stage) -> None:
    bounds = Bounds(episodes=64, starts=4, verifications=4)
    run = stage.run(stage.tasks(*"abcdefgh"), lambda: Plays(SOLVE), attempts=8, bounds=bounds)
    assert Counter(row.status for row in run.rows) == {"passed": 64}
