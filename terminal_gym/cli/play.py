"""`tgym play`: a person at the terminal of a task; the verdict on leaving.

Bytes pass both ways as they are, so a program in the sandbox can do to the person's terminal whatever bytes can do.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from terminal_gym.cli.ready import RuntimeName, ready
from terminal_gym.cli.report import EXIT, say, show_episode
from terminal_gym.errors import UsageError
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.terminal.session import Session
from terminal_gym.trajectory.record import Action, Frame, Observation

LEAVE = b"\x1d"  # Ctrl-]
# Undo what a program may have left switched on: alternate screen, hidden cursor, colours, bracketed paste, mouse.
RESTORE = (
    b"\x1b[?1049l\x1b[?25h\x1b[0m\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1l\x1b>\r\n"
)


class Person:
    """The agent that is a person: one act, as long as they like, then submit."""

    name = "person"

    def __init__(self, session: Callable[[], Session], frames: Callable[[], tuple[Frame, ...]]):
        self._session, self._frames = session, frames

    def begin(self, task: object) -> None:
        """Nothing to prepare."""

    def act(self, seen: Observation) -> Action:
        pass_through(self._session(), self._frames, stdin=sys.stdin.fileno(), stdout=sys.stdout.fileno())
        return Action(submit=True)


def play(task: Annotated[str, typer.Argument(metavar="TASK")], runtime: RuntimeName = "auto") -> None:
    """Play a task yourself. Ctrl-] leaves and asks for the verdict. Exit codes as for run."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("`tgym play` needs a terminal on stdin and stdout. For scripts there is `tgym run`.")
    # Here, not above: `tgym tasks list` needs neither a terminal nor a sandbox.
    from terminal_gym.env import TerminalEnv
    from terminal_gym.rollout.episode import run_episode

    found = find_task(task)
    cols, rows = os.get_terminal_size(sys.stdout.fileno())  # not shutil: COLUMNS may be a stale one
    with (
        ready(runtime, found) as (maker, _),
        TerminalEnv(found, runtime=maker, rows=rows, cols=cols, record=True) as env,
    ):
        say(f"{found.ref} on {maker.name}; Ctrl-] leaves and asks for the verdict.\n\n{found.instruction}")
        played = run_episode(env, Person(lambda: env.session, lambda: env.frames))
    show_episode(played)
    raise typer.Exit(EXIT[played.outcome.status])


def pass_through(
    session: Session, frames: Callable[[], tuple[Frame, ...]], *, stdin: int, stdout: int
) -> None:
    """Carry bytes between a terminal and the session until Ctrl-], end of input, or the end of the shell."""
    drawn = 0
    with _raw(stdin), _resizing(session, stdout):
        while not session.is_closed:
            drawn = _draw(frames(), drawn, stdout)
            if select.select([stdin], [], [], 0)[0]:
                typed, leave, _ = os.read(stdin, 65536).partition(LEAVE)
                if typed:
                    session.send(typed)
                if leave or not typed:
                    break
            _read_once(session)
        _draw(frames(), drawn, stdout)
        os.write(stdout, RESTORE)


def _draw(frames: tuple[Frame, ...], drawn: int, stdout: int) -> int:
    data = b"".join(frame.data for frame in frames[drawn:] if frame.direction == "out")
    while data:
        data = data[os.write(stdout, data) :]
    return len(frames)


def _read_once(session: Session) -> None:
    """Let the session read once; it waits a few milliseconds for a byte."""
    looks = iter((False, True))
    if not session.is_closed:
        session.wait(lambda quiet_s: next(looks, True) or session.is_closed, deadline_s=1.0)


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _resizing(session: Session, stdout: int) -> Iterator[None]:
    """Tell the session whenever the person's terminal changes its size."""

    def resize(signum: int, frame: object) -> None:
        cols, rows = os.get_terminal_size(stdout)
        session.resize(rows, cols)

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
