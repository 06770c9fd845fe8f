"""Nodes of a Ray cluster as places: one actor a node, many episodes in each; all that decides stays here.

A node plays with its own runtime, images and environment: provider keys are read from the variables of the node's own
processes and never travel. Tasks travel by name, and their content hashes are compared there, so each node has the same
catalogues or sees the same folders. A node that dies is no fault of its attempts: they are played elsewhere. Its
sandboxes are removed by the machine's next owner or by `tgym reap` there.

Source: Ray 2.60: actors, node affinity, threaded actors with concurrency groups.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from terminal_gym.errors import BadSetting, RuntimeUnavailable, SandboxLost, TerminalGymError
from terminal_gym.rollout.engine import Bounds
from terminal_gym.rollout.job import Elsewhere, Job, here
from terminal_gym.rollout.place import Place
from terminal_gym.rollout.plan import Attempt
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.trajectory.codec import from_json, to_json
from terminal_gym.trajectory.record import Trajectory

_ADVICE = "Start one: `ray start --head`, then `ray start --address HOST:PORT` on the others."
_CPUS = 0.1  # of an actor, as Ray counts: it waits for sandboxes, which Ray does not see
_CALL_S = 60.0  # for an answer that should come at once
_START_S = 300.0  # for a node's process, its imports and its model


def nodes(address: str, *, runtime: str = "auto", settings: Mapping[str, str] | None = None) -> Elsewhere:
    """Return what lends the nodes of a cluster to `open_rollout`.

    Args:
        address: `ray://HOST:PORT`, `HOST:PORT`, or "auto": the cluster that this machine is a node of.
        runtime: As `open_runtime` takes it, on each node.
        settings: What that runtime is made with.

    Raises:
        BadSetting: The `ray` package is missing.
    """
    needs_ray()

    def lent(job: Job, left: Sequence[Attempt], bounds: Bounds) -> AbstractContextManager[Sequence[Place]]:
        return _lent(address, job, left, bounds, runtime=runtime, settings=dict(settings or {}))

    return lent


@contextlib.contextmanager
def _lent(
    address: str, job: Job, left: Sequence[Attempt], bounds: Bounds, *, runtime: str, settings: dict[str, str]
) -> Iterator[list[Place]]:
    """Lend one place for each node that is alive.

    Raises:
        RuntimeUnavailable: There is no cluster, or no node of it can start sandboxes.
    """
    found: list[Node] = []
    with connected(address) as entries:
        try:
            work = (asdict(job), [asdict(attempt) for attempt in left], asdict(bounds), runtime, settings)
            found = [Node(entry, work, bounds) for entry in entries]
            refused = _first_errors(found)
            if len(refused) == len(found):
                raise RuntimeUnavailable(f"No node of the cluster at {address!r} can play: {refused[0]}")
            yield [node for node in found if node.is_ready]
        finally:
            for node in found:
                node.end()


def needs_ray() -> None:
    """Raise BadSetting where the package is missing."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise BadSetting("The package 'ray' is missing. pip install 'terminal-gym[ray]'") from error


@contextlib.contextmanager
def connected(address: str) -> Iterator[list[Mapping[str, Any]]]:
    """Connect to a cluster, unless this process is; lends what Ray says of each node that is alive.

    Raises:
        RuntimeUnavailable: There is no cluster.
    """
    import ray

    connects = not ray.is_initialized()
    if connects:
        _knock(address)
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray warns until it is set
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise RuntimeUnavailable(
                f"No Ray cluster at {address!r}: {str(error)[:300]} {_ADVICE}"
            ) from error
    try:
        yield [entry for entry in ray.nodes() if entry["Alive"]]
    finally:
        if connects:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise RuntimeUnavailable where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").partition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10.0).close()
    except OSError as error:
        raise RuntimeUnavailable(f"No Ray cluster at {address!r}: {error}. {_ADVICE}") from error


def _first_errors(found: Sequence[Node]) -> list[BaseException]:
    """Wait for the nodes; returns why some cannot play. What the caller did wrong is raised: it is so everywhere."""
    refused: list[BaseException] = []
    for node in found:
        try:
            node.wait_until_ready()
        except RuntimeUnavailable as error:
            refused.append(error)
    return refused


class Node:
    """A place on another machine; it knows its actor and nothing of what the actor holds."""

    def __init__(self, entry: Mapping[str, Any], work: tuple[Any, ...], bounds: Bounds):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.name = name_of(entry)
        self.runtime = ""
        self.is_ready = False
        self._id, self._mending = entry["NodeID"], threading.Lock()
        self._playing: set[Attempt] = set()
        self._mutex = threading.Lock()
        self._ray = ray
        affinity = NodeAffinitySchedulingStrategy(entry["NodeID"], soft=False)
        options: dict[str, Any] = {
            "num_cpus": _CPUS,
            "scheduling_strategy": affinity,
            "max_restarts": 0,  # a process that died is replaced by `check`, with what it needs
            "concurrency_groups": {"episodes": bounds.episodes + 1, "calls": 4},
        }
        self._start: Callable[[], Any] = lambda: ray.remote(**options)(Player).remote(*work)
        self._actor = self._start()

    def wait_until_ready(self) -> None:
        """Wait until the node can play.

        Raises:
            UsageError: The job cannot be played there: a task differs, a setting does not fit.
            RuntimeUnavailable: It cannot start sandboxes, or is gone.
        """
        self.runtime = self._told(self._asked("ready"), timeout_s=_START_S)
        self.is_ready = True

    def prepare(self, attempt: Attempt) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):  # met by the play that would have had it
            self._asked("prepare", asdict(attempt))

    def play(self, attempt: Attempt, *, seed: int | None, began: Callable[[], None]) -> Trajectory:
        with self._mutex:
            self._playing.add(attempt)
        try:
            self._told(self._asked("have_image", asdict(attempt)))
            began()
            return from_json(Trajectory, self._told(self._asked("play", asdict(attempt), seed)))
        finally:
            with self._mutex:
                self._playing.discard(attempt)

    def drop(self, attempt: Attempt) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._asked("drop", asdict(attempt))

    def holds(self) -> bool:
        with self._mutex:
            return bool(self._playing)

    def check(self) -> None:
        """Raise RuntimeUnavailable where the node or its sandboxes are gone; a process that died is replaced first."""
        try:
            self._told(self._asked("check"), timeout_s=_CALL_S)
        except RuntimeUnavailable:
            if not any(entry["NodeID"] == self._id and entry["Alive"] for entry in self._ray.nodes()):
                raise
            if not self._mending.acquire(blocking=False):
                raise  # somebody who asked before starts it already
            try:
                self._actor = self._start()
                self.wait_until_ready()
            finally:
                self._mending.release()

    def close(self) -> None:
        """Nothing: `end` does it, when nobody plays any more."""

    def end(self) -> None:
        """Let the actor remove what it holds, and end it. Safe to call again."""
        with contextlib.suppress(TerminalGymError, self._ray.exceptions.RayError):
            self._told(self._asked("close"), timeout_s=_CALL_S)
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(self._actor)

    def _asked(self, method: str, *values: Any) -> Any:
        """Begin a call; episodes never keep short calls waiting."""
        group = "episodes" if method in ("have_image", "play") else "calls"
        return getattr(self._actor, method).options(concurrency_group=group).remote(*values)

    def _told(self, answer: Any, *, timeout_s: float | None = None) -> Any:
        """Return what the actor said; raises what it raised."""
        errors = self._ray.exceptions
        try:
            kind, told = self._ray.get(answer, timeout=timeout_s)
        except errors.GetTimeoutError as error:
            raise RuntimeUnavailable(f"{self.name} gave no answer in {timeout_s:.0f} s") from error
        except (errors.RayError, ConnectionError) as error:
            kind_of_loss = SandboxLost if timeout_s is None else RuntimeUnavailable
            raise kind_of_loss(f"{self.name} is gone: {first_line(error)}") from error
        if kind == "error":
            raise known_error(*told)
        return told


def name_of(entry: Mapping[str, Any]) -> str:
    """Return what a node is called: its host, and the beginning of its id."""
    return f"{entry['NodeManagerHostname']}/{entry['NodeID'][:8]}"


def first_line(error: BaseException) -> str:
    """Return what an error of Ray's says, without its trace."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def known_error(name: str, text: str) -> Exception:
    """Return an error of ours by its name: the whole tree travels as name and text."""
    from terminal_gym import errors

    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, TerminalGymError)):
        return RuntimeError(f"{name}: {text}")
    error = kind.__new__(kind)
    Exception.__init__(error, text)
    return error


# ── on the node ─────────────────────────────────────────────────────────────────────────────────


class Player:
    """Plays on one node. Each method returns ("ok", value) or ("error", (name, text))."""

    def __init__(
        self,
        job: dict[str, Any],
        left: list[dict[str, Any]],
        bounds: dict[str, Any],
        runtime: str,
        settings: dict[str, str],
    ):
        self._work = (Job(**job), [Attempt(**one) for one in left], Bounds(**bounds), runtime, settings)
        self._open = contextlib.ExitStack()
        self._place: Any = None

    def ready(self) -> tuple[str, Any]:
        """Open what is needed; the runtime's name."""

        def opened() -> str:
            job, left, bounds, runtime, settings = self._work
            maker = open_runtime(runtime, **settings)
            self._open.callback(maker.close)
            maker.check()
            maker.reap()
            tasks = job.open_tasks()
            model = job.open_model()
            if model is not None:
                self._open.callback(model.close)
            self._maker, self._tasks = maker, tasks
            self._place = here(job, maker, tasks, left, model=model, bounds=bounds)
            self._open.callback(self._place.close)
            return maker.name

        return _answer(opened)

    def have_image(self, attempt: dict[str, Any]) -> tuple[str, Any]:
        return _answer(lambda: self._place.have_image(Attempt(**attempt)))

    def prepare(self, attempt: dict[str, Any]) -> tuple[str, Any]:
        return _answer(lambda: self._place.prepare(Attempt(**attempt)))

    def play(self, attempt: dict[str, Any], seed: int | None) -> tuple[str, Any]:
        return _answer(lambda: to_json(self._place.play(Attempt(**attempt), seed=seed, began=lambda: None)))

    def drop(self, attempt: dict[str, Any]) -> tuple[str, Any]:
        return _answer(lambda: self._place.drop(Attempt(**attempt)))

    def check(self) -> tuple[str, Any]:
        return _answer(lambda: self._place.check())

    def close(self) -> tuple[str, Any]:
        return _answer(self._open.close)


def _answer(work: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "ok", work()
    except Exception as error:
        return "error", (type(error).__name__, str(error))
