"""Builds and proofs on the nodes of a Ray cluster: one actor a node, with its own runtime, images and model's key.

All that decides stays here: which items are left, the tables, the lock. Every node sees WORK under the same path, on a
file system that they share; images travel as recipes and are made where they are wanted. An item whose node dies is
done on another one; what was begun there is removed by the node's next owner or by `tgym reap`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Rejected, Row
from env_registry.pipeline.workers import WORKERS, Work
from terminal_gym.errors import RuntimeUnavailable, SandboxError, TerminalGymError
from terminal_gym.rollout.cluster import connected, first_line, known_error, name_of, needs_ray

_CPUS = 0.1  # of an actor, as Ray counts: it waits for sandboxes, which Ray does not see
_START_S, _CALL_S = 300.0, 60.0


@contextmanager
def crew(
    address: str, settings: Settings, stage: str, *, told: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[Work, int]]:
    """Lend what does a stage's items on the nodes of a cluster, and how many at once.

    Args:
        address: `ray://HOST:PORT`, `HOST:PORT`, or "auto": the cluster that this machine is a node of.
        settings: Of the pipeline; `parallel` is for each node.
        stage: build or accept.
        told: Told of nodes that cannot work, or are gone.

    Raises:
        BadSetting: The `ray` package is missing.
        RuntimeUnavailable: There is no cluster, or no node of it can work.
    """
    needs_ray()
    with connected(address) as entries, ExitStack() as stack:
        nodes = [Node(entry, settings, stage) for entry in entries]
        for node in nodes:
            stack.callback(node.end)
        ready = []
        for node in nodes:
            try:
                node.wait_until_ready()
                ready.append(node)
            except RuntimeUnavailable as error:
                told(f"{node.name} cannot work: {error}")
        if not ready:
            raise RuntimeUnavailable(
                f"No node of the cluster at {address!r} can work. See what each one said."
            )
        free = _Free(ready, each=settings.parallel)

        def work(item: Row) -> Mapping[str, Any]:
            while True:
                node = free.take()
                try:
                    return {**node.do(item), "node": node.name}
                except NodeGone as gone:
                    if free.lose(node):
                        told(f"{gone}; its items are done elsewhere")
                finally:
                    free.give_back(node)

        yield work, settings.parallel * len(ready)


class _Free:
    """The hands that are free: so many of each node that is alive."""

    def __init__(self, nodes: Sequence[Node], *, each: int):
        self._free = [node for _ in range(each) for node in nodes]
        self._alive = set(nodes)
        self._changed = threading.Condition()

    def take(self) -> Node:
        """Return a node that has a free hand, once there is one.

        Raises:
            RuntimeUnavailable: No node is left.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._free or not self._alive)
            if not self._free:
                raise RuntimeUnavailable("no node of the cluster is left")
            return self._free.pop(0)

    def give_back(self, node: Node) -> None:
        with self._changed:
            if node in self._alive:
                self._free.append(node)
            self._changed.notify_all()

    def lose(self, node: Node) -> bool:
        """Take a node out; whether it was in."""
        with self._changed:
            known = node in self._alive
            self._alive.discard(node)
            self._free = [one for one in self._free if one is not node]
            self._changed.notify_all()
            return known


class NodeGone(SandboxError):
    """A node, or its process, does not answer any more."""


class Node:
    """An actor on one node."""

    def __init__(self, entry: Mapping[str, Any], settings: Settings, stage: str):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.name, self._ray = name_of(entry), ray
        options: dict[str, Any] = {
            "num_cpus": _CPUS,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(entry["NodeID"], soft=False),
            "max_restarts": 0,
            "max_concurrency": settings.parallel + 1,
        }
        self._actor = ray.remote(**options)(Worker).remote(settings, stage)

    def wait_until_ready(self) -> None:
        """Raise RuntimeUnavailable where the node has no sandboxes, or does not see WORK."""
        try:
            self._told(self._actor.ready.remote(), timeout_s=_START_S)
        except NodeGone as error:
            raise RuntimeUnavailable(str(error)) from error

    def do(self, item: Row) -> Mapping[str, Any]:
        """Return the cells of an item; raises what its work raised, and NodeGone."""
        cells: Mapping[str, Any] = self._told(self._actor.do.remote(item.line()))
        return cells

    def end(self) -> None:
        """Let the actor close what it holds, and end it. Safe to call again."""
        with contextlib.suppress(TerminalGymError, self._ray.exceptions.RayError):
            self._told(self._actor.close.remote(), timeout_s=_CALL_S)
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(self._actor)

    def _told(self, answer: Any, *, timeout_s: float | None = None) -> Any:
        errors = self._ray.exceptions
        try:
            kind, told = self._ray.get(answer, timeout=timeout_s)
        except errors.GetTimeoutError as error:
            raise NodeGone(f"{self.name} gave no answer in {timeout_s:.0f} s") from error
        except (errors.RayError, ConnectionError) as error:
            raise NodeGone(f"{self.name} is gone: {first_line(error)}") from error
        if kind == "rejected":
            reason, detail, cells = told
            raise Rejected(reason, detail, **cells, node=self.name)
        if kind == "error":
            raise known_error(*told)
        return told


# ── on the node ─────────────────────────────────────────────────────────────────────────────────


class Worker:
    """Does the items of one stage on one node. Each method returns (kind, value): ok, rejected or error."""

    def __init__(self, settings: Settings, stage: str):
        self._settings, self._stage = settings, stage
        self._open = ExitStack()
        self._work: Work | None = None

    def ready(self) -> tuple[str, Any]:
        """Open what the stage needs."""

        def opened() -> None:
            if not self._settings.work.is_dir():
                raise RuntimeUnavailable(f"{self._settings.work} is not seen here. Share it with every node.")
            self._work = self._open.enter_context(WORKERS[self._stage](self._settings))

        return _answer(opened)

    def do(self, line: dict[str, Any]) -> tuple[str, Any]:
        """Do one item."""
        assert self._work is not None
        work, item = self._work, Row.read(line)
        return _answer(lambda: dict(work(item)))

    def close(self) -> tuple[str, Any]:
        return _answer(self._open.close)


def _answer(work: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "ok", work()
    except Rejected as no:
        return "rejected", (no.reason, no.detail, dict(no.cells))
    except Exception as error:
        return "error", (type(error).__name__, str(error))
