"""Machines: a sandbox with a live session at its first prompt; started when asked for, or ahead of that.

A warm machine is taken once and never given back: what an episode did to it dies with it.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import tarfile
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from terminal_gym.errors import (
    ImageChanged,
    ImageMissing,
    SandboxError,
    StartFailed,
    TerminalGymError,
    ValidatorBroken,
)
from terminal_gym.sandbox.base import Console, Image, Runtime, Sandbox, SandboxSpec, Snapshot
from terminal_gym.sandbox.health import wait_healthy
from terminal_gym.tasks.harness import Healthcheck, TaskStep
from terminal_gym.tasks.task import Task
from terminal_gym.terminal.session import Session
from terminal_gym.trajectory.record import Frame
from terminal_gym.trusted_runtime.orders import ShellOrders

_SETUP_S = 600.0
# What a harness mounts, which everybody may write to; ours are plain folders of the sandbox.
LOGS: dict[str, tuple[str, ...]] = {
    "terminal-bench": ("logs", "agent-logs"),
    "terminaltraj": ("logs", "agent-logs"),
    "harbor": ("logs", "logs/agent", "logs/verifier", "logs/artifacts"),
}


@dataclass(frozen=True)
class Machine:
    """What one episode plays on."""

    image: Image
    sandbox: Sandbox
    console: Console
    session: Session
    nonce: str  # of the shell's marks
    fact: str  # by which the first prompt was known
    frames: list[Frame]  # what crossed the terminal, where that is recorded

    def is_alive(self) -> bool:
        """Say whether its first process still runs, as far as this process can see."""
        return not self.session.is_closed and self.console.exit_code() is None

    def close(self) -> None:
        """Remove it. Safe to call again; what a dead daemon keeps, the reaper removes."""
        with contextlib.suppress(SandboxError):
            self.session.close()
            self.sandbox.close()


class Machines(Protocol):
    """Gives machines out; `start_machine` on a runtime is the plain way."""

    def take(self, task: Task, *, rows: int, cols: int, record: bool) -> Machine:
        """Return a machine that nobody has used; the caller closes it. Raises what `start_machine` raises."""
        ...


def start_machine(
    runtime: Runtime,
    task: Task,
    *,
    rows: int,
    cols: int,
    record: bool = False,
    snapshot: Snapshot | None = None,
    folder: str = "",
) -> Machine:
    """Start a sandbox of the task's image and wait for the first prompt.

    Args:
        runtime: Holds the image.
        task: Its limits, user and working directory count.
        rows: Height of the terminal in cells.
        cols: Width of the terminal in cells.
        record: Keep every chunk that crosses the terminal.
        snapshot: Begin with these files instead of the image's.
        folder: Where the shell begins, in place of the task's and the image's own working directory.

    Raises:
        ImageMissing: The image is not built; the message says how to build it.
        SandboxError: The machine could not start it. Nothing is left behind.
        TaskError: The image cannot be used, e.g. it has no shell.
    """
    try:
        image = snapshot.image if snapshot else runtime.image(task.image.name)
    except ImageMissing as error:
        raise ImageMissing(f"{error} For this task: `tgym images build {task.folder}`.") from error
    if task.image.digest not in ("", image.digest) and snapshot is None:
        found = f"{image.name} is {image.digest}, and the manifest has pinned {task.image.digest}."
        raise ImageChanged(f"{found} Fetch or build that image, or pin anew with `tgym tasks pin`.")
    spec = SandboxSpec(
        image.name,
        f"{task.ref.name}-{secrets.token_hex(6)}",
        task.limits,
        services=task.services,
        aliases=(task.service,) if task.service and task.services else (),
        needs=task.needs,
    )
    user = task.user or image.user
    nonce, frames = secrets.token_hex(8), list[Frame]()
    with contextlib.ExitStack() as undo:
        sandbox = undo.enter_context((snapshot or runtime).start(spec))
        workdir = folder or task.workdir or image.workdir or "/"
        if snapshot is None and (made := prepared(task, workdir)):
            sandbox.write_archive(made)
        orders = ShellOrders(nonce, env={**image.env, **task.env}, user=user, cwd=workdir)
        console = sandbox.boot(orders, rows=rows, cols=cols)
        if task.healthcheck is not None and snapshot is None:
            _wait_healthy(sandbox, task, image, task.healthcheck)
        tap = frames.append if record else None
        session = Session(console, nonce=nonce, rows=rows, cols=cols, frames=tap)
        fact = session.open().fact
        undo.pop_all()
    return Machine(image, sandbox, console, session, nonce, fact, frames)


def prepared(task: Task, workdir: str) -> bytes:
    """Return a tar of what the task's harness puts into the machine before the agent begins; b"" where nothing."""
    folders = LOGS.get(task.format, ()) if task.script is not None or task.steps else ()
    if not folders and task.uploads is None:
        return b""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in folders:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(entry)
        if task.uploads is not None:
            tar.add(task.uploads, workdir.strip("/") or ".", filter=_plain)
    return made.getvalue()


def enter_step(task: Task, step: TaskStep, sandbox: Sandbox) -> None:
    """Bring what a step needs into the machine, run its setup.sh, and wait until it is healthy.

    Raises:
        ValidatorBroken: Its setup.sh failed; the task is at fault.
        SandboxError: The machine is lost, or does not become healthy.
    """
    image, user = sandbox.image, task.user or sandbox.image.user
    cwd = task.workdir or image.workdir or "/"
    env = {**image.env, **task.env}
    if step.workdir is not None:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
            tar.add(step.workdir, cwd.strip("/") or ".", filter=_plain)
        sandbox.write_archive(made.getvalue())
        if (step.workdir / "setup.sh").is_file():
            ran = sandbox.run(["bash", "setup.sh"], timeout_s=_SETUP_S, user=user, env=env, cwd=cwd)
            if ran.exit_code != 0:
                said = (ran.stdout + ran.stderr)[-500:].decode("utf-8", "replace")
                raise ValidatorBroken(
                    f"{task.ref}: setup.sh of step {step.name} ended with {ran.exit_code}: {said}"
                )
    if step.healthcheck is not None:
        _wait_healthy(sandbox, task, image, step.healthcheck)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _wait_healthy(sandbox: Sandbox, task: Task, image: Image, check: Healthcheck) -> None:
    """Wait for the check in the agent's own machine; raises StartFailed where it never succeeds."""
    env = {**image.env, **task.env}
    cwd = task.workdir or image.workdir or "/"

    def healthy() -> bool:
        ran = sandbox.run(list(check.command), timeout_s=check.timeout_s, env=env, cwd=cwd, user=task.user)
        return ran.exit_code == 0

    wait_healthy(check, healthy, why=lambda what: StartFailed(f"{task.ref}: its machine {what}"))


class Cold:
    """Starts each machine when it is asked for."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime

    def take(self, task: Task, *, rows: int, cols: int, record: bool) -> Machine:
        return start_machine(self._runtime, task, rows=rows, cols=cols, record=record)


class WarmPool:
    """Starts machines ahead: each `prepare` makes one, and the next `take` of that task finds it.

    Args:
        runtime: Holds the images.
        starts: How many start at the same time, ahead or not.
        rows: Height of each terminal in cells.
        cols: Width of each terminal in cells.
        record: Whether what crosses the terminals is kept.
    """

    def __init__(
        self, runtime: Runtime, *, starts: int = 2, rows: int = 40, cols: int = 160, record: bool = False
    ):
        self._runtime, self._wanted = runtime, (rows, cols, record)
        self._starts = threading.BoundedSemaphore(starts)
        self._workers = ThreadPoolExecutor(starts, thread_name_prefix="tgym-warm")
        self._mutex = threading.Lock()
        self._warm: dict[str, deque[Future[Machine]]] = {}
        self._closed = False

    def prepare(self, task: Task) -> None:
        """Begin to start a machine for `task`; what goes wrong is met by the `take` that would have had it."""
        with self._mutex:
            if not self._closed:
                started = self._workers.submit(self._start, task)
                self._warm.setdefault(task.content_hash(), deque()).append(started)

    def ready(self, task: Task) -> int:
        """Return how many machines of `task` are started and wait to be taken."""
        with self._mutex:
            return sum(started.done() for started in self._warm.get(task.content_hash(), ()))

    def take(self, task: Task, *, rows: int, cols: int, record: bool) -> Machine:
        while (self._wanted == (rows, cols, record)) and (ahead := self._ahead(task)):
            with contextlib.suppress(TerminalGymError):  # tried again below, where the caller hears of it
                machine = ahead.result()
                if machine.is_alive():
                    return machine
                machine.close()
        with self._starts:
            return start_machine(self._runtime, task, rows=rows, cols=cols, record=record)

    def _ahead(self, task: Task) -> Future[Machine] | None:
        with self._mutex:
            waiting = self._warm.get(task.content_hash())
            if not waiting:
                return None
            first = waiting.popleft()
        # One that is still in the queue would wait for others' starts: the caller is as quick.
        return self._ahead(task) if first.cancel() else first

    def _start(self, task: Task) -> Machine:
        rows, cols, record = self._wanted
        with self._starts:
            return start_machine(self._runtime, task, rows=rows, cols=cols, record=record)

    def drop(self, task: Task) -> None:
        """Remove the machines of `task` that nobody took, those that are being started as soon as they are there."""
        with self._mutex:
            left = self._warm.pop(task.content_hash(), ())
        for started in left:
            if not started.cancel():
                started.add_done_callback(_discard)

    def close(self) -> None:
        """Remove every machine that nobody took. Safe to call again."""
        with self._mutex:
            self._closed = True
            left = [started for waiting in self._warm.values() for started in waiting]
            self._warm.clear()
        for started in left:
            started.cancel()
        self._workers.shutdown(wait=True)
        for started in left:
            _discard(started)


def _discard(started: Future[Machine]) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result().close()
