r"""What the shell says about itself in its output: prompt and command marks, signed with the session's nonce.

    ESC ] 133 ; A|B|C ; aid=<nonce> BEL             prompt begins | prompt ends | command begins
    ESC ] 133 ; D ; <exit code> ; aid=<nonce> BEL   command ended
    ESC ] 6973 ; <nonce> ; waiting BEL              ours: all that was printed before it has arrived
    ESC ] 6973 ; <nonce> ; waiting ; <sleep> BEL    PID 1: the foreground process is blocked reading

A mark without the nonce is somebody else's output and changes nothing. The nonce lies in the shell's memory,
where an agent can find it: what is read here says when to look at the screen and what to show, never who passed.

Source: OSC 133, "semantic prompts", as FinalTerm began them; 6973 is our own.
"""

from __future__ import annotations

import re

_LONGEST = 96  # bytes of a mark, generously


class Marks:
    """Follows the marks in a stream of bytes, split anywhere."""

    def __init__(self, nonce: str):
        aid = re.escape(nonce.encode())
        self.hint = b"\x1b]6973;%b;waiting\x07" % nonce.encode()
        self._mark = re.compile(
            rb"\x1b\](?:133;(?:([ABC])|D;(\d{1,3})?);aid=%b|(6973;%b;waiting(?:;(\d{1,10}\.\d{1,20}))?))\x07"
            % (aid, aid)
        )
        self._rest = b""
        self.seen_any = False  # a mark of ours came at least once
        self.hint_at: int | None = (
            None  # where in what the last `feed` returned a hint stood, the last one if several
        )
        self.seen_commands = False  # so did a C: this shell says when a command begins
        self.at_prompt = False  # the last word was B
        self._ended = False  # D came, and no B since
        self.forget()

    def forget(self) -> None:
        """Begin to count anew; what is known about the shell stays."""
        self.prompts = 0  # prompts that followed the end of a command (D, then B)
        self.exit_code: int | None = None
        self.hints = 0
        self.sleep = b""  # the one that PID 1 named last

    def feed(self, chunk: bytes) -> bytes:
        """Follow `chunk` and return what to show: the bytes without hints, the last few held back if torn."""
        data = self._rest + chunk if self._rest else chunk
        self._rest = b""
        self.hint_at = None
        if b"\x1b" not in data:
            return data
        if b"\x1b]" in data:
            cut = 0
            for found in self._mark.finditer(data):
                self._note(found)
                if found[3]:
                    cut += len(found[0])
                    self.hint_at = found.end() - cut
        if self.hint_at is not None:
            data = self._mark.sub(lambda found: b"" if found[3] else found[0], data)
        # A mark torn by the end of the chunk waits for its other half; anything else goes on at once.
        torn = data.rfind(b"\x1b", max(0, len(data) - _LONGEST))
        if torn >= 0 and _may_become_mark(data[torn:]):
            data, self._rest = data[:torn], data[torn:]
        return data

    def flush(self) -> bytes:
        """Return what was held back: no other half will come."""
        rest, self._rest = self._rest, b""
        return rest

    def _note(self, found: re.Match[bytes]) -> None:
        if found[3]:
            self.hints += 1
            self.sleep = found[4] or self.sleep
            return
        self.seen_any = True
        letter = found[1]
        if letter is None:
            self.exit_code = int(found[2]) if found[2] else None
            self._ended, self.at_prompt = True, False
        elif letter == b"A":
            self.at_prompt = False
        elif letter == b"B":
            # A redraw repeats A and B without D: no command ended.
            self.at_prompt = True
            self.prompts += self._ended
            self._ended = False
        else:
            self.seen_commands, self.at_prompt = True, False


def _may_become_mark(tail: bytes) -> bool:
    for begin in (b"\x1b]133;", b"\x1b]6973;"):
        if begin.startswith(tail) or (tail.startswith(begin) and b"\x07" not in tail):
            return len(tail) < _LONGEST
    return False
