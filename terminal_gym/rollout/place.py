"""A place is where episodes are played: a runtime of this process, or a node of a cluster (`cluster.py`).

`Places` gives them out by load, and takes one that no longer answers out until it does again.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from terminal_gym.agents.agent import Agent
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import RuntimeUnavailable, SandboxError
from terminal_gym.machine import WarmPool
from terminal_gym.rollout.episode import run_episode
from terminal_gym.rollout.images import ImageShelf
from terminal_gym.rollout.plan import Attempt
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Action, Grading, Observation, Trajectory
from terminal_gym.validation.validator import Validator

ROWS, COLS = 40, 160
_ANSWERS_S = 15.0  # a place that takes longer to say that it is there is taken for gone


class Place(Protocol):
    """Plays episodes, many at once; safe to use from many threads."""

    @property
    def name(self) -> str:
        """What messages and records call it."""
        ...

    @property
    def runtime(self) -> str:
        """Name of the runtime there."""
        ...

    def prepare(self, attempt: Attempt) -> None:
        """Begin to start what the attempt will be played on."""
        ...

    def play(self, attempt: Attempt, *, seed: int | None, began: Callable[[], None]) -> Trajectory:
        """Play one episode to its end.

        Args:
            attempt: Which; never two at once of the same.
            seed: Of the episode.
            began: Called when the image is there and the episode's time begins.

        Raises:
            SandboxError, TaskError, ModelError: There is no trajectory, and whose fault that is.
        """
        ...

    def drop(self, attempt: Attempt) -> None:
        """Remove what the attempt is played on, without waiting."""
        ...

    def holds(self) -> bool:
        """Say whether an episode here still has a sandbox."""
        ...

    def check(self) -> None:
        """Raise RuntimeUnavailable where no episode can be started; may hang as long as the machine does."""
        ...

    def close(self) -> None:
        """Remove what was started ahead. Safe to call again."""
        ...


class Here:
    """A runtime that this process drives.

    Args:
        runtime: Where sandboxes come from; closed by the caller.
        tasks: Task ref → task.
        make_agent: Gives a fresh agent to each episode; gets the episode's seed.
        starts: Sandboxes that start at the same time.
        verifications: Verdicts at the same time.
        max_steps: Of each episode, beside the task's own limit.
        shelf: Lends images while episodes use them, and is closed with the place; None: the runtime holds them all.
        validator: Who judges; None: the validator that each task asks for.
        grading: Whose verdict is the reward, of tasks whose format has rules of its own.
        name: What records call it; "": nothing.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        tasks: Mapping[str, Task],
        make_agent: Callable[[int | None], Agent],
        starts: int = 2,
        verifications: int = 2,
        max_steps: int | None = None,
        shelf: ImageShelf | None = None,
        validator: Validator | None = None,
        grading: Grading = "strict",
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ):
        self.name, self.runtime = name, runtime.name
        self._runtime, self._tasks, self._make_agent = runtime, tasks, make_agent
        self._max_steps, self._clock = max_steps, clock
        self._shelf = shelf
        self._validator, self._grading = validator, grading
        self._verdicts = threading.BoundedSemaphore(verifications)
        self._pool = WarmPool(runtime, starts=starts, rows=ROWS, cols=COLS, record=True)
        self._mutex = threading.Lock()
        self._envs: dict[Attempt, TerminalEnv] = {}

    def prepare(self, attempt: Attempt) -> None:
        self._pool.prepare(self._tasks[attempt.task])

    def have_image(self, attempt: Attempt) -> None:
        """Make the attempt's image where it is missing; raises what `play` would."""
        if self._shelf is not None:
            with self._shelf.lend(self._tasks[attempt.task].image):
                pass

    def play(self, attempt: Attempt, *, seed: int | None, began: Callable[[], None]) -> Trajectory:
        task = self._tasks[attempt.task]
        env = self._env(task)
        with self._mutex:
            self._envs[attempt] = env  # before its image is made: from here on it can be dropped
        try:
            with self._shelf.lend(task.image) if self._shelf else contextlib.nullcontext():
                began()
                timed = TimedAgent(self._make_agent(seed), limit_s=task.limits.agent_s, clock=self._clock)
                return run_episode(env, timed, attempt=attempt.k, seed=seed)
        finally:
            env.close()
            with self._mutex:
                self._envs.pop(attempt, None)

    def _env(self, task: Task) -> TerminalEnv:
        return TerminalEnv(
            task,
            runtime=self._runtime,
            rows=ROWS,
            cols=COLS,
            record=True,
            max_steps=self._max_steps,
            validator=self._validator,
            grading=self._grading,
            verdicts=self._verdicts,
            machines=self._pool,
        )

    def drop(self, attempt: Attempt) -> None:
        with self._mutex:
            env = self._envs.get(attempt)
        if env is not None:
            threading.Thread(target=env.drop, name="tgym-close", daemon=True).start()

    def holds(self) -> bool:
        with self._mutex:
            return any(env.is_open for env in self._envs.values())

    def check(self) -> None:
        self._runtime.check()

    def close(self) -> None:
        self._pool.close()
        if self._shelf is not None:
            self._shelf.close()


# ── which one ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Seat:
    """A place, and what is known of it."""

    place: Place
    load: int = 0
    is_up: bool = True


class Places:
    """Gives places out, the least loaded first; safe to use from many threads.

    Args:
        places: One or more.
        patience_s: How long to wait when none of them answers.
        probe_s: How often one that does not answer is asked again.
        log: Told of those that go and come back.
    """

    def __init__(
        self,
        places: Sequence[Place],
        *,
        patience_s: float = 120.0,
        probe_s: float = 1.0,
        log: Callable[[str], None] = lambda text: None,
    ):
        self.all = tuple(places)
        self._patience_s, self._probe_s, self._log = patience_s, probe_s, log
        self._seats = [_Seat(place) for place in places]
        self._prepared: dict[Attempt, _Seat] = {}
        self._changed = threading.Condition()
        self._closed = False

    def prepare(self, attempt: Attempt) -> None:
        """Begin to start what the attempt will be played on, where it most likely will be."""
        with self._changed:
            up = [seat for seat in self._seats if seat.is_up]
            if not up:
                return
            ahead = list(self._prepared.values())
            seat = min(up, key=lambda seat: seat.load + ahead.count(seat))
            self._prepared[attempt] = seat
        seat.place.prepare(attempt)

    def take(self, attempt: Attempt) -> Place | None:
        """Return where to play; waits where no place answers. None: `close` was called meanwhile.

        Raises:
            RuntimeUnavailable: None of them answered for too long.
        """
        until = time.monotonic() + self._patience_s
        with self._changed:
            wanted = self._prepared.pop(attempt, None)
            while not (up := [seat for seat in self._seats if seat.is_up]) and not self._closed:
                if not self._changed.wait(until - time.monotonic()) and time.monotonic() >= until:
                    waited = f"for {self._patience_s:.0f} s"
                    names = ", ".join(seat.place.name or seat.place.runtime for seat in self._seats)
                    advice = "Start it again; a run goes on with `tgym rollout --resume`."
                    raise RuntimeUnavailable(f"{names}: no answer {waited}. {advice}")
            if self._closed:
                return None
            least = min(up, key=lambda seat: seat.load)
            seat = wanted if wanted in up and wanted.load <= least.load + 1 else least
            seat.load += 1
            return seat.place

    def give_back(self, place: Place) -> None:
        """The episode there is over."""
        with self._changed:
            self._seat(place).load -= 1

    def is_down(self, place: Place) -> bool:
        """Ask a place whether it still answers, after something went wrong there; one that does not is taken out."""
        error = _asked(place)
        with self._changed:
            seat = self._seat(place)
            if error is None or not seat.is_up:
                return not seat.is_up
            seat.is_up = False
        self._log(f"{place.name or place.runtime} is taken out: {error}")
        threading.Thread(target=self._probe, args=[seat], name="tgym-probe", daemon=True).start()
        return True

    def _probe(self, seat: _Seat) -> None:
        """Ask until it answers again."""
        while not self._closed:
            if _asked(seat.place) is None:
                self._log(f"{seat.place.name or seat.place.runtime} answers again")
                with self._changed:
                    seat.is_up = True
                    self._changed.notify_all()
                return
            with self._changed:
                self._changed.wait(self._probe_s)

    def _seat(self, place: Place) -> _Seat:
        return next(seat for seat in self._seats if seat.place is place)

    def close(self) -> None:
        """Let nobody wait any more. Safe to call again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _asked(place: Place) -> str | None:
    """Return why a place cannot be used, None where it can; one that hangs is asked by a thread left to itself."""
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            place.check()
            said.put(None)
        except SandboxError as error:
            said.put(str(error))
        except Exception as error:  # whatever it is, nothing can be started there
            said.put(f"{type(error).__name__}: {error}")

    threading.Thread(target=ask, name="tgym-ask", daemon=True).start()
    try:
        return said.get(timeout=_ANSWERS_S)
    except queue.Empty:
        return f"no answer in {_ANSWERS_S:.0f} s"


# ── an episode's own bounds ─────────────────────────────────────────────────────────────────────


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
        self._began = None
        if task.steps:  # each has a time of its own
            self._limit_s = task.limits.agent_s
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
