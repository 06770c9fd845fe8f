"""The oracle plays a task's reference solution through the terminal, as a person would; `partial` the partial one.

A script is typed into a temporary file with `printf`, which every shell has and which carries any byte through line
editing (a tab would complete, a long here-document would overflow the line discipline). It is run with bash where there
is one, else sh, and removed. Keystrokes are typed one entry at a time.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from terminal_gym.errors import BadSetting
from terminal_gym.tasks.solution import Keystrokes, Solution
from terminal_gym.tasks.task import Task
from terminal_gym.terminal.keys import encode
from terminal_gym.trajectory.record import Action, Observation

SCRIPT = "/tmp/.tgym-solution"
FOLDER = "/solution"  # where Harbor shows its reference solution, while it runs
LINE_BYTES = (
    1000  # of one typed line; BusyBox keeps 1,024 (FEATURE_EDITING_MAX_LEN), others 4,095 (termios(3))
)
LINES = 3  # typed in one step: steps are limited
LOOKS_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)  # pauses while a program waits for input that nobody gives
PLAIN = frozenset(
    b' !"#$&()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~'
)


@dataclass(frozen=True)
class Move:
    """One thing to type, and what to wait for before the next."""

    keys: bytes
    wait_s: float  # wall clock, at most
    until_prompt: bool = True  # look again until the shell is back at its prompt
    at_least_s: float = 0.0


class Oracle:
    """Plays the solution that `which` names, then submits."""

    def __init__(
        self,
        which: Literal["solution", "partial"],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.name = "oracle" if which == "solution" else which
        self._which, self._clock, self._sleep = which, clock, sleep
        self._moves: Iterator[Move] = iter(())
        self._move: Move | None = None
        self._typed_at = 0.0
        self._looks = 0

    def begin(self, task: Task) -> None:
        """Plan the moves.

        Raises:
            BadSetting: The task has no such solution.
        """
        solution = task.solution if self._which == "solution" else task.partial
        if solution is None:
            raise BadSetting(_lacking(task, self._which))
        self._moves, self._move = iter(moves(solution, limit_s=task.limits.agent_s)), None

    def act(self, seen: Observation) -> Action:
        """Return a look without keys while the last move is under way, else the next move."""
        if self._move is not None:
            since = self._clock() - self._typed_at
            if _under_way(self._move, seen) and since < self._move.wait_s:
                return self._look(seen, self._move.wait_s - since)
            if since < self._move.at_least_s:
                self._sleep(
                    self._move.at_least_s - since
                )  # its author says so: the fact is not on the terminal
        self._move = next(self._moves, None)
        self._typed_at, self._looks = self._clock(), 0
        if self._move is None:
            return Action(submit=True)
        return Action(keys=(self._move.keys,), wait_s=self._move.wait_s)

    def _look(self, seen: Observation, left_s: float) -> Action:
        """Pause, longer each time, where a look returns at once: looks are steps, and steps are limited."""
        if seen.settled_by != "deadline":
            self._sleep(min(LOOKS_S[min(self._looks, len(LOOKS_S) - 1)], left_s))
            self._looks += 1
        return Action(wait_s=left_s)


def _lacking(task: Task, which: str) -> str:
    if task.steps:
        advice = "Add solution/solve.sh to each of its steps, or one for all of them to the task."
        return f"{task.ref} has a step that has no {which}. {advice}"
    name = "solution/solve.sh" if task.format == "harbor" and which == "solution" else f"{which}.sh"
    return f"{task.ref} has no {which}. Add {name} to {task.folder}."


def _under_way(move: Move, seen: Observation) -> bool:
    return move.until_prompt and seen.settled_by not in ("prompt", "closed")


def oracle() -> Oracle:
    """Return the agent that plays the reference solution."""
    return Oracle("solution")


def partial() -> Oracle:
    """Return the agent that plays the partial solution."""
    return Oracle("partial")


def moves(solution: Solution, *, limit_s: float) -> list[Move]:
    """Return what to type for `solution`; a script may take `limit_s`."""
    if solution.script is None:
        return [_typed(entry) for entry in solution.keystrokes]
    files = {SCRIPT: solution.script.encode()}
    if solution.folder is not None:
        found = sorted(path for path in solution.folder.rglob("*") if path.is_file())
        files = {
            f"{FOLDER}/{path.relative_to(solution.folder).as_posix()}": path.read_bytes() for path in found
        }
    lines = [f"{line}\n".encode() for path, body in files.items() for line in script_lines(body, path)]
    typed = [Move(b"".join(lines[at : at + LINES]), 30.0) for at in range(0, len(lines), LINES)]
    script = SCRIPT if solution.folder is None else f"{FOLDER}/solve.sh"
    env = "".join(f"{name}={shlex.quote(value)} " for name, value in solution.env.items())
    shell = f"if command -v bash >/dev/null; then {env}bash {script}; else {env}sh {script}; fi"
    left = script if solution.folder is None else f"-r {FOLDER}"
    return [*typed, Move(f"{shell}; (c=$?; rm -f {left}; exit $c)\n".encode(), limit_s)]


def _typed(entry: Keystrokes) -> Move:
    enter = b"\r" if entry.append_enter else b""
    return Move(
        encode(entry.command) + enter,
        entry.max_timeout_s,
        until_prompt=entry.block,
        at_least_s=entry.min_timeout_s,
    )


def script_lines(script: bytes, path: str = "") -> list[str]:
    """Return the shell lines that write `script` to `path`, or SCRIPT, each below LINE_BYTES and plain ASCII."""
    path = path or SCRIPT
    place, folder = shlex.quote(path), shlex.quote(path.rpartition("/")[0])
    room = LINE_BYTES - 30 - len(place)
    pieces = [_escaped(byte) for byte in script]
    chunks = [""]
    for piece in pieces:
        if len(chunks[-1]) + len(piece) > room:
            chunks.append("")
        chunks[-1] += piece
    first, *rest = [f"printf '{chunk}'" for chunk in chunks]
    return [f"mkdir -p {folder}", f"{first} > {place}", *(f"{line} >> {place}" for line in rest)]


def _escaped(byte: int) -> str:
    """Return `byte` as it stands in the single-quoted format of printf."""
    if byte == ord("\n"):
        return "\\n"
    if byte == ord("%"):
        return "%%"
    return chr(byte) if byte in PLAIN else f"\\{byte:03o}"
