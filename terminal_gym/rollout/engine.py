"""The engine: many episodes at once, here or elsewhere, retried by blame, stored as they end.

One thread per running episode. A supervisor takes an episode away from a thread that does not come back: whatever
hangs, its attempt ends at the deadline, its sandbox is removed, and another thread goes on with the rest. A machine
that dies is no fault of an attempt, which is played elsewhere, or waits until the machine is back.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from terminal_gym.errors import ModelError, SandboxError, SandboxLost, StoreError, TaskError, UsageError
from terminal_gym.rollout.place import Place, Places
from terminal_gym.rollout.plan import Attempt, Retries, blame_of, next_after, seed_of
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Outcome, Trajectory
from terminal_gym.trajectory.store import Row, RunWriter

_ABORT_S = 20.0  # for removing what runs
_CRASHES = 8  # tries in a row, with nothing else between them: then it is no accident


@dataclass(frozen=True)
class Bounds:
    """How much happens at once, and for how long."""

    episodes: int = 4  # in all, wherever they are played
    starts: int = 2  # sandboxes that start at the same time, at each place
    verifications: int = 2  # verdicts at the same time, at each place
    ahead: int = 2  # sandboxes started before an episode wants them; 0: none
    max_steps: int | None = None  # beside each task's own limit
    image_quota_bytes: int | None = None  # that images made here may take; beyond it, unused ones are dropped
    disk_floor_bytes: int = 0  # left free where images are kept, likewise
    images: int = 4  # made or pulled at the same time, and how far ahead
    grace_s: float = (
        120.0  # beyond a task's agent and verifier time: starting, stopping, the machine's own waits
    )
    patience_s: float = 120.0  # waited while no place answers, before the run is stopped


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
    place: Place
    owner: threading.Thread
    failures: tuple[str, ...] = ()
    ends_by: float = float("inf")  # its time begins when its image is there
    decided: bool = False


class Engine:
    """Runs attempts until none is left.

    Args:
        tasks: Task ref → task.
        places: Where episodes are played; closed by the caller.
        writer: Where trajectories go.
        agent: Name of the agent, as trajectories call it.
        bounds: How much at once.
        retries: How often again.
        seed: From which each attempt's seed is derived; None: none has one.
        model: Name of the agents' model, as trajectories call it.
        versions: What trajectories say of the software.
        watcher: Told what happens.
        log: Told of places that go and come back.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        tasks: Mapping[str, Task],
        places: Sequence[Place],
        writer: RunWriter,
        agent: str,
        bounds: Bounds | None = None,
        retries: Retries | None = None,
        seed: int | None = None,
        model: str = "",
        versions: Mapping[str, str] | None = None,
        watcher: Watcher | None = None,
        log: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._tasks, self._writer = tasks, writer
        self._bounds, self._retries = bounds or Bounds(), retries or Retries()
        self._places = Places(places, patience_s=self._bounds.patience_s, log=log)
        self._seed, self._agent, self._model, self._versions = seed, agent, model, dict(versions or {})
        self._watcher, self._clock = watcher or Silent(), clock
        self._mutex = threading.Lock()
        self._running: dict[threading.Thread, _Try] = {}
        self._ended: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
        self._left: Iterator[tuple[int, Attempt]] = iter(())
        self._quarantine: dict[str, str] = {}
        self._finishing, self._aborted = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._crashes = 0

    def run(self, attempts: Sequence[Attempt]) -> None:
        """Run `attempts`, in order, as many at once as allowed; returns when all are on record, or after `finish`.

        Raises:
            StoreError: The disk failed; the run can be resumed.
            UsageError: The provider or the agent refuses what was asked; nothing more was started.
            RuntimeUnavailable: No place answered any more; the run can be resumed.
            Exception: Our own code or the agent's crashes again and again; once breaks one try only.
        """
        self._attempts, self._left = attempts, enumerate(attempts)
        try:
            threads = {self._hire() for _ in range(min(self._bounds.episodes, len(attempts)))}
            while threads:
                threads -= self._gone()
                threads |= {self._hire() for _ in self._take_overdue(threads)}
        except BaseException:
            self.abort()
            raise
        finally:
            self._places.close()
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Start nothing more; what runs goes on to its end."""
        self._finishing.set()
        self._places.close()

    def abort(self) -> None:
        """Start nothing more, and remove every sandbox now; what ran is not recorded."""
        self._aborted.set()
        self.finish()
        until = self._clock() + _ABORT_S
        while True:
            with self._mutex:
                running = list(self._running.values())
                for one in running:
                    one.decided = True
            for one in running:  # those too whose sandbox is not there yet
                one.place.drop(one.attempt)
            if self._clock() >= until or not any(place.holds() for place in self._places.all):
                return
            threading.Event().wait(0.1)

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
            threads.discard(one.owner)
            one.place.drop(one.attempt)
            reason = "SandboxLost: the episode was still under way at its deadline, and was abandoned"
            self._store(
                replace(self._unplayed(one.attempt, reason, one.place.runtime), failures=one.failures)
            )
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
            coming = self._attempts[ahead]
            if coming.task not in self._quarantine:
                self._places.prepare(coming)
        return attempt

    def _attempt(self, attempt: Attempt, me: threading.Thread) -> bool:
        """Play until there is a record; returns False where the attempt was taken away, or nothing more is started."""
        failures: tuple[str, ...] = ()
        tries = moves = 0
        while True:
            if attempt.task in self._quarantine:
                reason = f"TaskError: quarantined, for {self._quarantine[attempt.task]}"
                return self._store(replace(self._unplayed(attempt, reason), failures=failures))
            place = self._places.take(attempt)
            if place is None:
                return True  # `_next` says that there is nothing more
            one = _Try(attempt, place, me, failures)
            self._watcher.started(attempt)
            played = self._played(one)
            if played is None:
                return False
            reason = played.outcome.reason
            if played.outcome.status != "broken":
                return self._store(replace(played, failures=failures))
            blame = blame_of(reason)
            if blame == "machine" and moves < self._retries.moves and self._places.is_down(place):
                moves += 1
                self._watcher.retried(attempt, reason)
            else:
                tries += 1
                if not self._again(attempt, reason, tries):
                    return self._store(replace(played, failures=failures))
            if self._finishing.is_set():
                return True
            failures = (*failures, reason)

    def _played(self, one: _Try) -> Trajectory | None:
        """Return the trajectory, None where the attempt was taken away meanwhile."""
        with self._mutex:
            self._running[one.owner] = one
            one.decided = self._aborted.is_set()
        try:
            if one.decided:
                raise SandboxLost("The run was aborted before the attempt began.")
            played = self._play(one)
        except Exception as error:
            if not self._decide(one):
                return None  # whatever went wrong follows from its sandbox being taken away
            if isinstance(error, UsageError | StoreError) or self._is_usual(error):
                raise
            return self._unplayed(one.attempt, _told(error), one.place.runtime)
        finally:
            self._places.give_back(one.place)
        with self._mutex:
            self._crashes = 0
        return played if self._decide(one) else None

    def _is_usual(self, error: Exception) -> bool:
        """Count a crash; says whether so many came in a row that the run had better stop."""
        with self._mutex:
            self._crashes += 1
            return self._crashes >= max(_CRASHES, 2 * self._bounds.episodes)

    def _decide(self, one: _Try) -> bool:
        """Say whether this thread may decide about the attempt: it may once, unless somebody else did."""
        with self._mutex:
            self._running.pop(one.owner, None)
            mine, one.decided = not one.decided, True
        return mine

    def _again(self, attempt: Attempt, reason: str, tries: int) -> bool:
        """Say whether to try again, after the pause that goes with it."""
        blame = blame_of(reason)
        todo = next_after(blame, tries=tries, retries=self._retries)
        if todo == "quarantine":
            self._quarantine[attempt.task] = reason
        if todo != "retry" or self._finishing.is_set():
            return False
        self._watcher.retried(attempt, reason)
        self._finishing.wait(self._retries.pause_s(blame, tries))
        return not self._finishing.is_set()

    def _play(self, one: _Try) -> Trajectory:
        limits = self._tasks[one.attempt.task].limits

        def began() -> None:
            one.ends_by = self._clock() + limits.agent_s + limits.verifier_s + self._bounds.grace_s

        try:
            played = one.place.play(one.attempt, seed=self._seed_of(one.attempt), began=began)
        except (SandboxError, TaskError, ModelError) as error:
            return self._unplayed(one.attempt, f"{type(error).__name__}: {error}", one.place.runtime)
        where = {"place": one.place.name} if one.place.name else {}
        return replace(played, model=self._model, versions=self._versions | where)

    def _seed_of(self, attempt: Attempt) -> int | None:
        return None if self._seed is None else seed_of(attempt, seed=self._seed)

    def _unplayed(self, attempt: Attempt, reason: str, runtime: str = "") -> Trajectory:
        """Return the record of an attempt that left no trajectory."""
        task = self._tasks[attempt.task]
        return Trajectory(
            task=attempt.task,
            task_hash=task.content_hash(),
            agent=self._agent,
            runtime=runtime or self._places.all[0].runtime,
            image_digest="",
            attempt=attempt.k,
            seed=self._seed_of(attempt),
            steps=(),
            outcome=Outcome("broken", None, reason),
            instruction=task.instruction,
            model=self._model,
            versions=self._versions,
        )

    def _store(self, played: Trajectory) -> bool:
        self._watcher.ended(self._writer.append(played))
        return True

    def _stop_with(self, error: BaseException) -> None:
        with self._mutex:
            self._error = self._error or error
        self.finish()


def _told(error: Exception) -> str:
    """Return a crash as the reason of a broken episode: what was raised, and where."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno} in {where.name})"
