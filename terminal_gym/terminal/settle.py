"""When a step is over: the facts that say the foreground process waits for input, and the decision among them.

| fact | means | source |
|---|---|---|
| `closed` | the stream ended | end of file |
| `prompt` | the shell printed its prompt after the end of a command | OSC 133 marks with our nonce |
| `reader` | the foreground process sleeps in a read of this terminal | the host's /proc |
| `hint` | the same, in the word of PID 1 | asked for where /proc cannot be read |
| `silence` | nothing was printed for a while; only where neither source works | the clock |
| `deadline` | none of these, and time is up | the clock |

A prompt alone is not the end where more was typed than one line: the next line may be running already. Then the
reader, the hint, or the shell's own silence after its prompt decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from terminal_gym.trusted_runtime.guest import blocked_reader

_NAP_S = 0.25  # a timeout up to this long is waited for; a longer one is a refresh, and worth no waiting
_ESCAPE_S = 1.1  # the same after a lone Escape: curses gives the rest of a key 1 s
_ABOUT_TO_READ_S, _FIRST_SLEEP_S = 0.5, 0.0002
_ASK_AGAIN_S = 20.0  # a question may get lost, and PID 1 looks for an answer no longer than a minute
_LEAVING_S = 0.05  # how long script and its like wait for the last output of what they ran

Fact = Literal["closed", "prompt", "reader", "hint", "silence", "deadline"]


@dataclass(frozen=True)
class Settled:
    """Why a wait ended."""

    fact: Fact
    exit_code: int | None  # of the last command that ended meanwhile, where a mark with our nonce told it
    seconds: float  # wall clock, from the call on


@dataclass(frozen=True)
class Patience:
    """How long to wait where a fact needs a little time, or where there is none."""

    prompt_s: float = 0.1  # silence after a prompt that may not be the last one, where nobody knows better
    hint_after_s: float = (
        0.02  # PID 1 is asked when no prompt came in this time, and again when its answer did not do
    )
    hint_quiet_s: float = (
        0.003  # silence that confirms an answer; so does a second one that names the same sleep
    )
    silence_s: float = 3.0  # last resort: neither /proc nor hints
    stale_s: float = 0.3  # a reader that slept on through what was sent counts after this time
    unheard_s: float = 1.0  # the same where a daemon is between and not even an echo has come back


@dataclass(frozen=True)
class Evidence:
    """What is known since the last bytes were sent."""

    closed: bool = False
    prompts: int = 0  # ends of commands that a prompt followed
    at_prompt: bool = False  # and no command has begun since
    owed: int = 0  # lines typed, each of which may bring a prompt
    shell_tells: bool = False  # this shell marks where a command begins
    sightings: int = 0  # consecutive looks that met the same sleeping reader
    answers: int = 0  # consecutive answers of PID 1 that named the same sleeping reader
    blind: bool = False  # neither /proc nor hints work here
    quiet_s: float = 0.0  # seconds since the last byte, or since the sending


def decide(seen: Evidence, patience: Patience) -> Fact | None:
    """Return the fact that ends the wait, None while there is none."""
    if seen.closed:
        return "closed"
    if seen.prompts and seen.at_prompt:
        told = seen.blind and seen.shell_tells and seen.quiet_s >= patience.prompt_s
        if seen.prompts >= seen.owed or told:
            return "prompt"
    waiting = _waiting(seen, patience)
    return "prompt" if waiting and seen.prompts and seen.at_prompt else waiting


def _waiting(seen: Evidence, patience: Patience) -> Fact | None:
    if seen.sightings >= 2:
        return "reader"
    if seen.answers >= 2 or (seen.answers and seen.quiet_s >= patience.hint_quiet_s):
        return "hint"
    if seen.blind and seen.quiet_s >= patience.silence_s:
        return "silence"
    return None


def lines_in(data: bytes) -> int:
    """Return how many prompts `data` may bring: its line ends, and one more for text after the last of them."""
    ends = data.count(b"\n") + data.count(b"\r")
    return ends + (bool(data) and data[-1:] not in (b"\n", b"\r"))


class ReaderWatch:
    """Looks for the blocked reader, and tells a new sleep from the one that was there before the sending.

    Args:
        root_pid: Root of the process tree, in the host's /proc.
        local: The terminal is ours: what was written has reached it when a look polls it. Otherwise it may
            still be on its way, and the reader that slept before the sending must first have woken.
    """

    def __init__(self, root_pid: int, *, local: bool, clock: Callable[[], float] = time.monotonic):
        self._root, self._local, self._clock = root_pid, local, clock
        self._armed: tuple[int, int] | None = None
        self._unheard = False  # nobody slept at the sending, and nothing shows that it has arrived
        self._nap_s = _NAP_S
        self.stirred()

    @property
    def sleeper(self) -> tuple[int, int] | None:
        """Who was last seen asleep: process id and context switches."""
        return self._last

    def write(self, data: bytes) -> bool:
        """Print on the terminal after what the sleeper has printed; False where that cannot be done."""
        return self._last is not None and blocked_reader.write_to_terminal(self._last[0], data)

    def arm(self, data: bytes, *, at_prompt: bool) -> None:
        """Remember who sleeps now; call it before sending `data`.

        A shell that has just printed its prompt (`at_prompt`) is about to read, and is waited for: were it to fall
        asleep while what is sent is still with the daemon, that sleep would look like one after it.
        """
        self._armed = None if self._local else blocked_reader.find(self._root)
        until = self._clock() + _ABOUT_TO_READ_S * (at_prompt and not self._local)
        while self._armed is None and self._clock() < until:
            time.sleep(_FIRST_SLEEP_S)
            self._armed = blocked_reader.find(self._root)
        self._unheard = self._armed is None and not self._local
        # After a lone Escape a program waits a moment: the key, or the beginning of an arrow?
        self._nap_s = _ESCAPE_S if data.endswith(b"\x1b") else _NAP_S
        self.stirred()

    def disarm(self) -> None:
        """Count also the reader that has slept all along."""
        self._armed, self._unheard = None, False

    def stirred(self) -> None:
        """Begin to count anew."""
        self._last: tuple[int, int] | None = None
        self._since, self._sleeps, self.sightings = 0.0, 0, 0

    def printed(self) -> None:
        """Take note that something was printed: by the reader before it slept, or by others while it sleeps."""
        self._unheard = False
        self._sleeps = min(self._sleeps, 1)

    def look(self) -> int:
        """Look once; returns how many looks in a row have met the same sleep."""
        seen = blocked_reader.find(self._root)
        if seen is None or seen == self._armed or self._unheard:
            self.stirred()
        elif seen != self._last:
            again = self._last is not None and self._last[0] == seen[0]
            self._last, self._since, self.sightings = seen, self._clock(), 1
            self._sleeps = self._sleeps + 1 if again else 1
        elif self.sightings > 1 or not self._only_naps(seen[0]):
            # What was asked about the reader counts only if it slept until the answer was complete.
            self.sightings += self.sightings > 1 or blocked_reader.find(self._root) == seen
        return self.sightings

    def _only_naps(self, pid: int) -> bool:
        """Say whether the reader is about to wake by itself.

        It has a short timeout and was not yet seen to let one pass in silence; or it is script or sudo, waiting
        for the last output of what it ran.
        """
        slept_s = self._clock() - self._since
        if self._sleeps == 1 and slept_s < self._nap_s:
            timeout_s = blocked_reader.longest_sleep_s(pid)
            if slept_s < timeout_s + 0.01 <= self._nap_s + 0.01:
                return True
        return slept_s < _LEAVING_S and blocked_reader.keeps_empty_terminal(pid)


class HintWatch:
    """Asks PID 1 who is blocked, and tells an answer to what was sent from one to what was asked before.

    Question, answer and what we type take different ways through a daemon: an answer can arrive a step late, and a
    question can be answered before what was typed has reached the terminal. So an answer names the sleep it saw. It
    counts if that is not the sleep of before the sending, something was printed since, and it is the last thing
    printed, or a second one agrees.

    Args:
        ask: Has PID 1 answer once, when the foreground process is blocked.
        pause_s: Seconds after a sending, and after an answer that does not do, before it is asked.
        clock: Monotonic seconds.
    """

    def __init__(
        self, ask: Callable[[], None], *, pause_s: float, clock: Callable[[], float] = time.monotonic
    ):
        self._ask, self._pause_s, self._clock = ask, pause_s, clock
        self._armed = self._named = b""
        self._is_open, self._ask_at = False, clock()
        self._same, self._is_last = 0, True
        self.stirred = True  # something was printed since the sending

    def arm(self) -> None:
        """Remember who slept last; call it before sending."""
        self._armed = self._named or self._armed
        self._named, self._same, self.stirred = b"", 0, False
        self._is_open, self._ask_at = False, self._clock() + self._pause_s

    def disarm(self) -> None:
        """Count also the reader that has slept all along."""
        self._armed, self.stirred = b"", True

    def answered(self, sleep: bytes) -> None:
        """Take note of an answer, also of one that nobody waits for: that one tells who slept before."""
        if not self._is_open and not self._named:
            self._armed = sleep
            return
        self._same = self._same + 1 if sleep == self._named else 1
        self._named, self._is_last = sleep, True
        self._is_open, self._ask_at = False, self._clock() + self._pause_s

    def printed(self) -> None:
        """Take note of output; what was answered before the first of it is about the time before the sending."""
        if not self.stirred and self._named:
            self._armed, self._named, self._same = self._named, b"", 0
        self._is_last, self.stirred = False, True

    @property
    def answers(self) -> int:
        """How many answers in a row count."""
        counts = self.stirred and self._named != self._armed and (self._is_last or self._same >= 2)
        return self._same if counts else 0

    def seek(self) -> None:
        """Ask, where the last answer did not do and some time has passed since."""
        now = self._clock()
        if now >= self._ask_at and not self.answers:
            self._is_open, self._ask_at = True, now + _ASK_AGAIN_S
            self._ask()
