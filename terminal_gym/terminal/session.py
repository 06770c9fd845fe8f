"""A shell on a terminal, driven through pexpect: send, settle, look, resize, close; with a tap for recording.

A session knows neither Docker nor namespaces: it gets a *wire*, which is a live pexpect object and a few
questions that may be asked about the other end. It is used by one thread at a time.

What it does not promise: that the text is true. Whoever runs inside can print anything, prompts included; exit
codes are the shell's word and decide no verdict.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import pexpect
from pexpect.spawnbase import SpawnBase

from terminal_gym.errors import BadAction, SessionClosed, SettleTimeout
from terminal_gym.terminal.marks import Marks
from terminal_gym.terminal.output import Output, clipped, column_after, plain
from terminal_gym.terminal.screen import Screen, Snapshot
from terminal_gym.terminal.settle import (
    Evidence,
    Fact,
    HintWatch,
    Patience,
    ReaderWatch,
    Settled,
    decide,
    lines_in,
)
from terminal_gym.trajectory.record import Frame

Clock = Callable[[], float]
Until = Callable[[float], bool]  # gets the seconds since the last byte

_CHUNK = 128 * 1024  # bytes asked for in one read
_WRITE = 4096  # bytes per write: what a terminal buffers
_STUCK_S = 3.0  # without room for another byte: the program reads nothing
_CANONICAL = 4095  # bytes of a line that a terminal in canonical mode keeps; source: n_tty.c, N_TTY_BUF_SIZE
_SIGNAL_KEYS = re.compile(rb"[\x03\x1a\x1c]+")  # ^C ^Z ^\
_FENCE_S = 2.0  # for our own hint to come back through a daemon, which may be slow on a busy machine
_NO_FENCE_S = 0.1  # without a byte, where no hint can be printed
_FIRST_PROMPT_S = (
    5.0  # for a shell's first prompt, once it reads: a profile of the image may ask something first
)
_FIRST_BYTE_S = (
    15.0  # for anything at all from a shell that reads: a daemon under load has taken more than 5 s
)
_FIRST_LOOK_S, _LAST_LOOK_S = 0.0005, 0.02


class Wire(Protocol):
    """The terminal of a booted sandbox, as far as a session needs it."""

    @property
    def stream(self) -> SpawnBase[bytes]: ...

    def resize(self, rows: int, cols: int) -> None: ...

    def init_pid(self) -> int | None:
        """Root of the process tree in the host's /proc, None where that cannot be read."""
        ...

    def ask_for_hint(self) -> None:
        """Have PID 1 print a hint once the foreground process is blocked reading the terminal."""
        ...

    def exit_code(self) -> int | None: ...


class _Writable(Protocol):
    def send(self, s: bytes) -> int: ...


@dataclass(frozen=True)
class Sent:
    """What became of the bytes handed to `send`."""

    size: int  # bytes written; fewer than were given where the program stopped reading, or the deadline came
    overlong: bool = (
        False  # a line was longer than canonical mode keeps, and the terminal may be in that mode
    )


class Session:
    """One shell, from its first prompt to its end.

    Args:
        wire: The other end; whoever made it closes it.
        nonce: Names this session in the shell's marks; equals `ShellOrders.nonce`.
        rows: Height of the terminal, in cells.
        cols: Width of the terminal, in cells.
        frames: Called with every chunk that crosses the terminal; keeps them if it wants to.
        clock: Monotonic seconds.
        patience: Settings of the settle detection.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        nonce: str,
        rows: int = 40,
        cols: int = 160,
        frames: Callable[[Frame], None] | None = None,
        clock: Clock = time.monotonic,
        patience: Patience | None = None,
    ):
        self._wire, self._clock, self._frames = wire, clock, frames
        self._patience = patience or Patience()
        self._stream = _tuned(wire.stream)
        self._fd = self._stream.child_fd
        self._local = os.isatty(self._fd)
        if self._local:
            os.set_blocking(
                self._fd, False
            )  # a full terminal must not block us while it waits for us to read
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._marks, self._output = Marks(nonce), Output()
        self._screen = Screen(rows=rows, cols=cols)
        self._lead = b""  # the line that the cursor stood on when the output began
        self._began = self._last_byte = clock()
        self._owed = 0  # lines typed that no prompt has answered
        self._watch: ReaderWatch | None = None
        self._hints = False  # PID 1 answers
        self._hint = HintWatch(wire.ask_for_hint, pause_s=self._patience.hint_after_s, clock=clock)
        self._fence: tuple[tuple[int, int] | None, int, float] | None = None  # sleeper, hints before, seconds
        self._fenced_at = 0.0
        self._unechoed = 0  # bytes of an unfinished line whose echo has not come
        self._was_settled = self._was_typed_at = False
        self.is_closed = False

    def init_pid(self) -> int | None:
        """Return PID 1 of the shell's machine as this host sees it, None where it does not."""
        return self._wire.init_pid()

    # ── open, close ─────────────────────────────────────────────────────────────────────────────

    def open(self, deadline_s: float = 30.0) -> Settled:
        """Wait for the first prompt, and find out by which facts this session can settle.

        Raises:
            SettleTimeout: Nobody asked for input before the deadline.
            SessionClosed: The shell ended.
        """
        root = self._wire.init_pid()
        if root is not None:
            self._watch = ReaderWatch(root, local=self._local, clock=self._clock)
        began = self._clock()
        if early := self._stream.buffer:  # came in one piece with PID 1's OK, as it does under load
            self._stream.buffer = b""
            self._arrived(early)
        self._hints = self._watch is None  # assumed, until it is known better
        settled = self.settle(deadline_s=deadline_s)
        if settled.fact == "closed":
            raise self._closed_error()
        if settled.fact == "deadline":
            raise SettleTimeout(
                f"no prompt in {deadline_s:.1f} s; the terminal shows: {self.screen().text()[-500:]!r}",
                screen=self.screen(),
            )
        if settled.fact != "prompt" and self._prompt_comes():
            settled = Settled("prompt", None, self._clock() - began)  # it was still with the daemon
        left = min(0.5, deadline_s - (self._clock() - began))
        if self._watch is not None and not self._proves(lambda: self._look() > 0, left):
            self._watch = None
        if self._watch is None and not self._marks.hints:
            self._wire.ask_for_hint()
            self._hints = self._proves(lambda: self._marks.hints > 0, left)
        return settled

    @property
    def sources(self) -> tuple[str, ...]:
        """Return which facts beside the prompt this session has: "reader", "hint", or none."""
        return ("reader",) if self._watch is not None else ("hint",) if self._hints else ()

    def is_at_prompt(self) -> bool:
        """Say whether the shell's last word is its prompt, as far as it has arrived.

        For a shell that does not mark where a command begins (dash, ash): only until something was typed.
        """
        while self._pump(0):
            pass
        return self._marks.at_prompt and (self._marks.seen_commands or not self._was_typed_at)

    def close(self) -> None:
        """Read no more. The wire's maker closes the wire. Safe to call again."""
        self.is_closed = True

    # ── send ────────────────────────────────────────────────────────────────────────────────────

    def send(self, data: bytes, *, deadline_s: float = 60.0) -> Sent:
        """Type `data`; returns when it is written, not when it is read.

        Output is read meanwhile, so any size goes through, unless the program in the foreground stops reading: then
        the rest is given up after 3 s without room for a byte, or at the deadline. After ^C, ^Z or ^\\ the rest
        waits until the terminal asks for input or is quiet: a shell drops what comes in one breath with a signal.

        Raises:
            SessionClosed: The shell has ended.
        """
        if not isinstance(data, bytes):
            raise BadAction(f"send takes bytes, not {type(data).__name__}: {str(data)[:60]!r}")
        if self._was_settled:
            self._lead = self._output.last_line() or self._lead
            self._output.clear()
            self._was_settled = False
        while self._pump(0):  # no mark that came before the sending counts
            pass
        if self.is_closed:
            raise self._closed_error()
        self._was_typed_at = True
        self._owed = max(0, self._owed - self._marks.prompts)
        if self._watch is not None:
            self._watch.arm(data, at_prompt=self._marks.at_prompt and not self._owed)
        self._marks.forget()
        self._fence = None
        self._hint.arm()
        overlong = _longest_line(data) > _CANONICAL and self._maybe_canonical()
        until, written = self._clock() + deadline_s, 0
        for i, part in enumerate(_split_after_signals(data)):
            if i:
                self._await_quiet()
            taken = self._write(part, until)
            self._owed += lines_in(part[:taken])
            written += taken
            if taken < len(part):
                break
        self._unechoed = 0 if b"\n" in data or b"\r" in data else self._output.size + written
        self._last_byte = self._clock()
        return Sent(written, overlong)

    def _write(self, data: bytes, until: float) -> int:
        """Write, and read meanwhile; returns how many bytes the terminal took before `until`."""
        stream, at, stuck = cast(_Writable, self._stream), 0, self._clock() + _STUCK_S
        self._poll.modify(self._fd, select.POLLIN | select.POLLOUT)
        try:
            while at < len(data) and not self.is_closed:
                left_s = min(until, stuck) - self._clock()
                if left_s <= 0:
                    break
                for _, events in self._poll.poll(1 + 1000 * left_s):
                    if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                        self._read()
                    if events & select.POLLOUT and not self.is_closed:
                        try:
                            at += stream.send(data[at : at + _WRITE])
                            stuck = self._clock() + _STUCK_S
                        except BlockingIOError:
                            continue
                        except OSError:
                            self.is_closed = True
        finally:
            self._poll.modify(self._fd, select.POLLIN)
        self._record("in", data[:at])
        return at

    def _await_quiet(self) -> None:
        """Wait, after a signal key, until somebody wants input again; where nobody says so, for 50 ms of silence."""
        self._last_byte, deadline = self._clock(), self._clock() + 0.5
        while not self.is_closed and self._clock() < deadline:
            if self._marks.prompts and self._marks.at_prompt:
                return
            if self._pump(_FIRST_LOOK_S):
                continue
            if self._look() >= 2 if self._watch is not None else self._quiet_s() > 0.05:
                return

    # ── settle, wait ────────────────────────────────────────────────────────────────────────────

    def settle(self, *, deadline_s: float) -> Settled:
        """Return as soon as input is wanted, or at the deadline.

        Never raises for a shell that ended: the fact is then `closed`.
        """
        began = now = self._clock()
        deadline, look_at, pause = began + deadline_s, began + _FIRST_LOOK_S, _FIRST_LOOK_S
        sleeper: tuple[int, int] | None = None
        while True:
            got = self._pump(max(0.0, min(look_at, deadline) - now))
            now = self._clock()
            if got:
                pause = _FIRST_LOOK_S
                look_at = min(look_at, now + _LAST_LOOK_S) if now < look_at else now
            if now >= look_at or self.is_closed:
                cost = self._seek()
                pause = min(_LAST_LOOK_S, max(pause * 1.5, 10 * cost))
                if self._watch is not None and self._watch.sleeper != sleeper:
                    sleeper, pause = self._watch.sleeper, _FIRST_LOOK_S  # confirm a new sleep soon
                now = self._clock()
                look_at = now + pause
            fact = decide(self._evidence(), self._patience)
            if fact is None and now >= deadline:
                fact = "deadline"
            if fact is not None:
                return self._settled(fact, began)

    def wait(self, until: Until, *, deadline_s: float) -> Snapshot:
        """Return the screen as soon as `until` holds.

        Args:
            until: Asked after each read, also an empty one; gets the seconds since the last byte.
            deadline_s: Upper bound in wall-clock seconds, > 0.

        Raises:
            SettleTimeout: The deadline came first; `.screen` is the last snapshot.
            SessionClosed: The shell ended; `.exit_code` is its status.
        """
        deadline = self._clock() + deadline_s
        while not until(self._quiet_s()):
            if self.is_closed:
                raise self._closed_error()
            left = deadline - self._clock()
            if left <= 0:
                raise SettleTimeout(f"not seen in {deadline_s:.1f} s", screen=self.screen())
            self._pump(min(left, _LAST_LOOK_S))
        return self.screen()

    def _seek(self) -> float:
        """Look for the reader, or ask PID 1 to; returns what that cost, in seconds."""
        began = self._clock()
        # Half a line wakes nobody in canonical mode, where the terminal itself echoes it.
        echoed = 0 < self._unechoed <= self._output.size
        heard = self._local or self._hint.stirred
        stale = self._quiet_s() >= (self._patience.stale_s if heard else self._patience.unheard_s)
        if self._watch is not None:
            if echoed or stale:
                self._watch.disarm()
            self._look()
        elif self._hints:
            if echoed or stale:
                self._hint.disarm()
            self._hint.seek()
        return self._clock() - began

    def _look(self) -> int:
        return self._watch.look() if self._watch is not None and not self._in_flight() else 0

    def _sightings(self) -> int:
        """Return how often the same sleep was seen: two are proof, once the output before it has arrived."""
        watch = self._watch
        if watch is None or self._local or watch.sightings < 2:
            return watch.sightings if watch is not None else 0
        # What the program printed may still be with the daemon. A hint of our own, printed behind it, comes last.
        if self._fence is None or self._fence[0] != watch.sleeper:
            hints = self._marks.hints
            wait_s = _FENCE_S if watch.write(self._marks.hint) else _NO_FENCE_S
            self._fence = (watch.sleeper, hints, wait_s)
            self._fenced_at = self._clock()
        _, hints, wait_s = self._fence
        if self._marks.hints > hints or self._clock() - max(self._fenced_at, self._last_byte) >= wait_s:
            return watch.look()
        return 1

    def _evidence(self) -> Evidence:
        marks = self._marks
        return Evidence(
            closed=self.is_closed,
            prompts=marks.prompts,
            at_prompt=marks.at_prompt,
            owed=self._owed,
            shell_tells=marks.seen_commands,
            sightings=self._sightings(),
            answers=0 if self._watch is not None else self._hint.answers,
            blind=self._watch is None and not self._hints,
            quiet_s=self._quiet_s(),
        )

    def _settled(self, fact: Fact, began: float) -> Settled:
        self._was_settled = True
        if fact == "deadline":
            self._owed = max(0, self._owed - self._marks.prompts)
        else:
            self._owed = 0
            self._drain()
        return Settled(fact, self._marks.exit_code, self._clock() - began)

    def _drain(self) -> None:
        """Read what the kernel still holds; the last bytes can come after the state was seen."""
        end = self._clock() + 0.05
        while self._pump(0) and self._clock() < end:
            pass
        held = self._marks.flush()
        if held:
            self._show(held)

    def _prompt_comes(self) -> bool:
        """Wait for a prompt that the shell has printed, and the daemon not yet brought."""
        return self._proves(lambda: self._output.size > 0, _FIRST_BYTE_S) and self._proves(
            lambda: self._marks.at_prompt, _FIRST_PROMPT_S
        )

    def _proves(self, holds: Callable[[], bool], seconds: float) -> bool:
        end = self._clock() + seconds
        while not holds():
            if self._clock() >= end or self.is_closed:
                return False
            self._pump(_FIRST_LOOK_S)
        return True

    # ── what is seen ────────────────────────────────────────────────────────────────────────────

    def screen(self) -> Snapshot:
        """Return what a person would see now; later output does not change it."""
        return self._screen.snapshot()

    def output(self) -> bytes:
        """Return the raw bytes since the last `send`, without the middle where they are many."""
        return self._output.head() + self._output.tail()

    def text(self, limit: int = 100_000) -> str:
        """Return the output since the last `send` as plain text of at most about `limit` characters."""
        kept, cols = self._output, self._screen.cols
        head = plain(kept.head(), cols=cols, column=column_after(self._lead, cols=cols))
        tail = plain(kept.tail(), cols=cols)
        if not kept.omitted:
            return clipped(plain(self.output(), cols=cols, column=column_after(self._lead, cols=cols)), limit)
        return clipped(f"{head}\n[… {kept.omitted} bytes left out …]\n{tail}", limit)

    @property
    def omitted(self) -> int:
        """Bytes of the output since the last `send` that are not kept."""
        return self._output.omitted

    def resize(self, rows: int, cols: int) -> None:
        """Change the size of the terminal; the foreground process is told by SIGWINCH."""
        self._wire.resize(rows, cols)
        self._screen.resize(rows, cols)
        self._record("resize", b"%dx%d" % (cols, rows))

    # ── bytes ───────────────────────────────────────────────────────────────────────────────────

    def _pump(self, timeout_s: float) -> bool:
        """Read once, waiting up to `timeout_s` for a byte; says whether something came."""
        return not self.is_closed and self._readable(timeout_s) and self._read()

    def _readable(self, timeout_s: float) -> bool:
        # poll counts in milliseconds; select is finer, but knows the first 1,024 descriptors only.
        if 0 < timeout_s < 0.001 and self._fd < 1024:
            return bool(select.select([self._fd], [], [], timeout_s)[0])
        return bool(self._poll.poll(timeout_s and max(1, round(timeout_s * 1000))))

    def _read(self) -> bool:
        chunk = self._take_local() if self._local else self._take()
        if chunk:
            self._arrived(chunk)
        return bool(chunk)

    def _arrived(self, chunk: bytes) -> None:
        chunk = self._marks.feed(chunk)
        if chunk or self._marks.hint_at is None:
            self._last_byte = (
                self._clock()
            )  # a hint alone is no output: asking again must not break the silence
        self._tell_hint(chunk)
        if chunk:
            self._show(chunk)
            if self._watch is not None:
                self._watch.printed()

    def _tell_hint(self, chunk: bytes) -> None:
        """Tell what was printed and answered, in order."""
        at = self._marks.hint_at
        if chunk[:at]:
            self._hint.printed()
        if at is not None:
            self._hint.answered(self._marks.sleep)
            if chunk[at:]:
                self._hint.printed()

    def _take(self) -> bytes:
        try:
            return self._stream.read_nonblocking(_CHUNK, 0)
        except pexpect.TIMEOUT:
            return b""
        except (pexpect.EOF, OSError, ValueError):
            self.is_closed = True
            return b""

    def _take_local(self) -> bytes:
        # A terminal gives 4 KiB at a time. pexpect's `spawn` polls before each of them, its base class does not.
        pieces: list[bytes] = []
        size = 0
        while size < _CHUNK:
            try:
                piece = SpawnBase.read_nonblocking(self._stream, _CHUNK)
            except BlockingIOError:
                break
            except (pexpect.EOF, OSError, ValueError):
                # What was read goes first; the end is met again at the next read.
                self.is_closed = not pieces
                break
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def _show(self, chunk: bytes) -> None:
        self._output.append(chunk)
        self._screen.feed(chunk)
        self._record("out", chunk)

    def _record(self, direction: Literal["out", "in", "resize"], data: bytes) -> None:
        if self._frames is not None and data:
            self._frames(Frame(self._clock() - self._began, direction, data))

    def _quiet_s(self) -> float:
        return self._clock() - self._last_byte

    def _in_flight(self) -> bool:
        """Say whether bytes that were sent are still in our socket."""
        if self._local:
            return False
        try:
            unsent: int = struct.unpack("i", fcntl.ioctl(self._fd, termios.TIOCOUTQ, b"\0" * 4))[0]
        except OSError:
            return False
        return unsent > 0

    def _maybe_canonical(self) -> bool:
        try:
            return bool(termios.tcgetattr(self._fd)[3] & termios.ICANON)
        except termios.error:
            return True

    def _closed_error(self) -> SessionClosed:
        code = self._wire.exit_code()
        last = self.text(2000).strip()[-500:]
        return SessionClosed(f"the shell ended with status {code}; it last printed: {last!r}", exit_code=code)


def _tuned(stream: SpawnBase[bytes]) -> SpawnBase[bytes]:
    """Set pexpect for speed: it sleeps before each send and after each close, and searches all it has read."""
    stream.delaybeforesend = stream.delayafterread = None
    stream.delayafterclose = stream.delayafterterminate = 0
    stream.maxread, stream.searchwindowsize = _CHUNK, 300
    return stream


def _split_after_signals(data: bytes) -> list[bytes]:
    ends = [found.end() for found in _SIGNAL_KEYS.finditer(data)]
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True) if a < b]


def _longest_line(data: bytes) -> int:
    if len(data) <= _CANONICAL:
        return len(data)
    return max(map(len, re.split(rb"[\r\n]", data)))
