"""The engine: many episodes at once on this machine, retried by blame, stored as they end.

One thread per running episode. A supervisor takes an episode away from a thread that does not come back: whatever
hangs, its attempt ends at the deadline, its sandbox is removed, and another thread goes on with the rest.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from terminal_gym.agents.agent import Agent
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import (
    ModelError,
    SandboxError,
    TaskError,
)
from terminal_gym.machine import WarmPool
from terminal_gym.rollout.episode import run_episode
from terminal_gym.rollout.plan import Attempt, Retries, blame_of, next_after, seed_of
from terminal_gym.sandbox.base import Image, Runtime
from terminal_gym.tasks.task import ImageRecipe, Task
from terminal_gym.trajectory.record import Action, Grading, Observation, Outcome, Trajectory
from terminal_gym.trajectory.store import Row, RunWriter
from terminal_gym.validation.validator import Validator

ROWS, COLS = 40, 160
_ABORT_S = 20.0  # for removing what runs


@dataclass(frozen=True)
class Bounds:
    """How much happens at once, and for how long."""

    episodes: int = 4
    starts: int = 2  # sandboxes that start at the same time
    verifications: int = 2  # verdicts at the same time
    ahead: int = 2  # sandboxes started before an episode wants them
    max_steps: int | None = None  # beside each task's own limit
    image_quota_bytes: int | None = None  # that images made here may take; beyond it, unused ones are dropped
    disk_floor_bytes: int = 0  # left free where images are kept, likewise
    grace_s: float = (
        120.0  # beyond a task's agent and verifier time: starting, stopping, the machine's own waits
    )


class Watcher(Protocol):
    """Is told what happens, from many threads."""

    def started(self, attempt: Attempt) -> None: ...

    def retried(self, attempt: Attempt, reason: str) -> None: ...

    def ended(self, row: Row) -> None: ...


class Silent:
    """Tells nobody."""

    def started(self, attempt: Attempt) -> None: ...

    def retried(self, attempt: Attempt, reason: str) -> None: ...

    def ended(self, row: Row) -> None: ...


@dataclass(eq=False)
class _Try:
    """One episode under way, and the right to decide about its attempt."""

    attempt: Attempt
    ends_by: float
    env: TerminalEnv | None = None
    owner: threading.Thread | None = None
    failures: tuple[str, ...] = ()
    decided: bool = False


class Engine:
    """Runs attempts until none is left.

    Args:
        tasks: Task ref → task.
        make_agent: Gives a fresh agent to each episode.
        runtime: Where sandboxes come from; closed by the caller.
        writer: Where trajectories go.
        bounds: How much at once.
        retries: How often again.
        seed: From which each attempt's seed is derived; None: none has one.
        model: Name of the agents' model, as trajectories call it.
        versions: What trajectories say of the software.
        lend: Lends an image while an episode uses it; None: the runtime holds them all.
        watcher: Told what happens.
        validator: Who judges; None: the validator that each task asks for.
        grading: Whose verdict is the reward, of tasks whose format has rules of its own.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        tasks: Mapping[str, Task],
        make_agent: Callable[[], Agent],
        runtime: Runtime,
        writer: RunWriter,
        bounds: Bounds | None = None,
        retries: Retries | None = None,
        seed: int | None = None,
        model: str = "",
        versions: Mapping[str, str] | None = None,
        lend: Callable[[ImageRecipe], AbstractContextManager[Image]] | None = None,
        watcher: Watcher | None = None,
        validator: Validator | None = None,
        grading: Grading = "strict",
        clock: Callable[[], float] = time.monotonic,
    ):
        self._tasks, self._make_agent, self._runtime, self._writer = tasks, make_agent, runtime, writer
        self._bounds, self._retries = bounds or Bounds(), retries or Retries()
        self._seed, self._model, self._versions = seed, model, dict(versions or {})
        self._lend = lend or (lambda recipe: contextlib.nullcontext(runtime.image(recipe.name)))
        self._watcher, self._clock = watcher or Silent(), clock
        self._validator, self._grading = validator, grading
        self._verdicts = threading.BoundedSemaphore(self._bounds.verifications)
        self._mutex = threading.Lock()
        self._running: dict[threading.Thread, _Try] = {}
        self._ended: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
        self._left: Iterator[tuple[int, Attempt]] = iter(())
        self._quarantine: dict[str, str] = {}
        self._finishing = threading.Event()
        self._error: BaseException | None = None

    def run(self, attempts: Sequence[Attempt]) -> None:
        """Run `attempts`, in order, as many at once as allowed; returns when all are on record, or after `finish`.

        Raises:
            StoreError: The disk failed; the run can be resumed.
            UsageError: The provider or the agent refuses what was asked; nothing more was started.
        """
        self._attempts, self._left = attempts, enumerate(attempts)
        bounds = self._bounds
        self._pool = WarmPool(self._runtime, starts=bounds.starts, rows=ROWS, cols=COLS, record=True)
        try:
            threads = {self._hire() for _ in range(min(bounds.episodes, len(attempts)))}
            while threads:
                threads -= self._gone()
                threads |= {self._hire() for _ in self._take_overdue(threads)}
        except BaseException:
            self.abort()
            raise
        finally:
            self._pool.close()
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Start nothing more; what runs goes on to its end."""
        self._finishing.set()

    def abort(self) -> None:
        """Start nothing more, and remove every sandbox now; what ran is not recorded."""
        self._finishing.set()
        with self._mutex:
            for one in self._running.values():
                one.decided = True
        until = self._clock() + _ABORT_S
        while (envs := self._envs()) and self._clock() < until:
            closers = [_close_soon(env) for env in envs]
            for closer in closers:
                closer.join(0.5)

    def _envs(self) -> list[TerminalEnv]:
        """Return the environments that still hold a sandbox."""
        with self._mutex:
            return [one.env for one in self._running.values() if one.env and one.env.is_open]

    # ── supervision ─────────────────────────────────────────────────────────────────────────────

    def _hire(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name="tgym-episode", daemon=True)
        thread.start()
        return thread

    def _gone(self) -> set[threading.Thread]:
        """Wait a moment; returns the threads that are through."""
        gone: set[threading.Thread] = set()
        with contextlib.suppress(queue.Empty):
            gone.add(self._ended.get(timeout=0.2))
            while True:
                gone.add(self._ended.get_nowait())
        return gone

    def _take_overdue(self, threads: set[threading.Thread]) -> list[_Try]:
        """Take attempts away from threads that hang; each is stored as broken, its thread is left to itself."""
        now = self._clock()
        with self._mutex:
            overdue = [one for one in self._running.values() if one.ends_by < now and not one.decided]
            for one in overdue:
                one.decided = True
        for one in overdue:
            assert one.owner is not None
            threads.discard(one.owner)
            if one.env is not None:
                _close_soon(one.env)
            reason = "SandboxLost: the episode was still under way at its deadline, and was abandoned"
            self._store(self._unplayed(one.attempt, reason, one.failures))
        return overdue

    # ── one thread ──────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        me = threading.current_thread()
        try:
            while (attempt := self._next()) is not None:
                if not self._attempt(attempt, me):
                    return  # taken away: another thread has this one's place
        except BaseException as error:
            self._stop_with(error)
        finally:
            self._ended.put(me)

    def _next(self) -> Attempt | None:
        with self._mutex:
            if self._finishing.is_set():
                return None
            at, attempt = next(self._left, (0, None))
        ahead = at + self._bounds.episodes
        if attempt is not None and self._bounds.ahead and ahead < len(self._attempts):
            self._prepare(self._attempts[ahead])
        return attempt

    def _prepare(self, attempt: Attempt) -> None:
        task = self._tasks[attempt.task]
        if attempt.task not in self._quarantine:
            self._pool.prepare(task)

    def _attempt(self, attempt: Attempt, me: threading.Thread) -> bool:
        """Play until there is a record; returns False where the attempt was taken away."""
        failures: tuple[str, ...] = ()
        if attempt.task in self._quarantine:
            reason = f"TaskError: quarantined, for {self._quarantine[attempt.task]}"
            return self._store(self._unplayed(attempt, reason, ()))
        while True:
            limits = self._tasks[attempt.task].limits
            ends_by = self._clock() + limits.agent_s + limits.verifier_s + self._bounds.grace_s
            one = _Try(attempt, ends_by, owner=me, failures=failures)
            with self._mutex:
                self._running[me] = one
            self._watcher.started(attempt)
            played = self._played(one, me)
            if played is None:
                return False
            if played.outcome.status != "broken":
                return self._store(replace(played, failures=failures))
            again = self._after(attempt, played.outcome.reason, failures)
            if not again:
                return self._store(replace(played, failures=failures))
            failures = (*failures, played.outcome.reason)

    def _played(self, one: _Try, me: threading.Thread) -> Trajectory | None:
        """Return the trajectory, None where the attempt was taken away meanwhile."""
        try:
            played = self._play(one)
        except Exception:
            if self._decide(one, me):
                raise
            return None  # whatever went wrong follows from its sandbox being taken away
        return played if self._decide(one, me) else None

    def _decide(self, one: _Try, me: threading.Thread) -> bool:
        """Say whether this thread may decide about the attempt: it may once, unless somebody else did."""
        with self._mutex:
            self._running.pop(me, None)
            mine, one.decided = not one.decided, True
        return mine

    def _after(self, attempt: Attempt, reason: str, failures: tuple[str, ...]) -> bool:
        """Say whether to try again, after the pause that goes with it."""
        blame, tries = blame_of(reason), len(failures) + 1
        todo = next_after(blame, tries=tries, retries=self._retries)
        if todo == "quarantine":
            self._quarantine[attempt.task] = reason
        if todo != "retry" or self._finishing.is_set():
            return False
        self._watcher.retried(attempt, reason)
        self._finishing.wait(self._retries.pause_s(blame, tries))
        return not self._finishing.is_set()

    def _play(self, one: _Try) -> Trajectory:
        task = self._tasks[one.attempt.task]
        seed = None if self._seed is None else seed_of(one.attempt, seed=self._seed)
        try:
            with self._lend(task.image), self._env(task) as env:
                with self._mutex:
                    one.env = env
                timed = TimedAgent(self._make_agent(), limit_s=task.limits.agent_s, clock=self._clock)
                played = run_episode(env, timed, attempt=one.attempt.k, seed=seed)
        except (SandboxError, TaskError, ModelError) as error:
            return self._unplayed(one.attempt, f"{type(error).__name__}: {error}", ())
        return replace(played, model=self._model, versions=self._versions)

    def _env(self, task: Task) -> TerminalEnv:
        return TerminalEnv(
            task,
            runtime=self._runtime,
            rows=ROWS,
            cols=COLS,
            record=True,
            max_steps=self._bounds.max_steps,
            validator=self._validator,
            grading=self._grading,
            verdicts=self._verdicts,
            machines=self._pool,
        )

    def _unplayed(self, attempt: Attempt, reason: str, failures: tuple[str, ...]) -> Trajectory:
        """Return the record of an attempt that left no trajectory."""
        task = self._tasks[attempt.task]
        return Trajectory(
            task=attempt.task,
            task_hash=task.content_hash(),
            agent=self._make_agent().name,
            runtime=self._runtime.name,
            image_digest="",
            attempt=attempt.k,
            seed=None if self._seed is None else seed_of(attempt, seed=self._seed),
            steps=(),
            outcome=Outcome("broken", None, reason),
            instruction=task.instruction,
            model=self._model,
            failures=failures,
            versions=self._versions,
        )

    def _store(self, played: Trajectory) -> bool:
        self._watcher.ended(self._writer.append(played))
        return True

    def _stop_with(self, error: BaseException) -> None:
        with self._mutex:
            self._error = self._error or error
        self._finishing.set()


class TimedAgent:
    """Lets an agent think as long as its task's time lasts; then it only looks, and the environment ends the episode.

    An agent that never returns keeps its thread; nothing waits for it.
    """

    def __init__(self, agent: Agent, *, limit_s: float, clock: Callable[[], float] = time.monotonic):
        self._agent, self._limit_s, self._clock = agent, limit_s, clock
        self._began: float | None = None

    @property
    def name(self) -> str:
        return self._agent.name

    def begin(self, task: Task) -> None:
        self._agent.begin(task)

    def act(self, seen: Observation) -> Action:
        if self._began is None:
            self._began = self._clock()
        left_s = self._limit_s - (self._clock() - self._began)
        said: queue.SimpleQueue[Action | BaseException] = queue.SimpleQueue()
        threading.Thread(target=self._think, args=(seen, said), name="tgym-agent", daemon=True).start()
        try:
            answer = said.get(timeout=max(left_s, 0.001))
        except queue.Empty:
            return Action()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _think(self, seen: Observation, said: queue.SimpleQueue[Action | BaseException]) -> None:
        try:
            said.put(self._agent.act(seen))
        except BaseException as error:
            said.put(error)


def _close_soon(env: TerminalEnv) -> threading.Thread:
    """Remove an episode's sandbox without waiting for a machine that hangs."""
    closer = threading.Thread(target=env.close, name="tgym-close", daemon=True)
    closer.start()
    return closer
