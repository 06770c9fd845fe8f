"""One command and what it printed: how it is typed so that the shell takes it as one, and which output is its own."""

from __future__ import annotations

import re
import shlex
import string

_LINE = (
    900  # characters typed per line; BusyBox keeps 1,024 (FEATURE_EDITING_MAX_LEN), others 4,095 (termios(3))
)
_AS_IT_IS = frozenset(string.printable) - frozenset("\t\n\r\x0b\x0c!`")
_OPENERS = {
    "for",
    "while",
    "until",
    "if",
    "case",
    "select",
    "function",
    "{",
    "(",
    "((",
    "[[",
    "coproc",
    "time",
}
_GOES_ON = re.compile(r"(\\|\||&&|\()$|<<")  # a line that is not whole, or may not be
_SPELLED = frozenset(string.ascii_letters + string.digits + ' #$&()*+,-./:;<=>?@[]^_{|}~"')


def typed(command: str, *, token: str) -> bytes:
    r"""Return the bytes that make any of our shells run `command` as one, however many lines it has.

    A simple line is typed as it is. Anything else is spelled out in octal for `eval "$(printf …)"`: no tab
    completes, no `!` recalls history, a here-document is read whole, and a syntax error ends in a status, not in a
    second prompt that waits.

    Args:
        command: Shell text; line feeds at its end do not count.
        token: Marks, unseen, where its output begins; see `printed`.
    """
    body = command.rstrip("\n")
    if is_simple(body):
        return body.encode() + b"\n"
    text = "\\\n".join(f"'{piece}'" for piece in _pieces(body.encode()))
    return f"printf '\\033]6974;{token}\\007'; eval \"$(printf {text})\"\n".encode()


def is_simple(line: str) -> bool:
    """Whether an interactive shell runs `line`, typed as it is, at once and as a script would."""
    if len(line) > _LINE or not _AS_IT_IS.issuperset(line) or _GOES_ON.search(line.rstrip()):
        return False
    try:
        words = shlex.split(line)
    except ValueError:  # a quote is open
        return False
    return not _OPENERS.intersection(words) and all(
        line.count(a) == line.count(b) for a, b in ("()", "{}", "[]")
    )


def printed(raw: bytes, nonce: str, *, token: str) -> bytes:
    """Return what one command printed, without echo and prompts; escape sequences stay.

    Args:
        raw: Output since the command was typed, marks included.
        nonce: The session's.
        token: As given to `typed`.
    """
    aid = re.escape(nonce.encode())
    ended = re.compile(rb"\x1b\]133;D;\d*;aid=%b\x07" % aid)
    begin = raw.rfind(mark := b"\x1b]6974;%b\x07" % token.encode())
    if begin >= 0:
        return ended.split(raw[begin + len(mark) :], maxsplit=1)[0]
    pieces = re.split(rb"\x1b\]133;C;aid=%b\x07" % aid, raw)
    if len(pieces) > 1:
        return b"".join(ended.split(piece, maxsplit=1)[0] for piece in pieces[1:])
    # A shell without the mark for a command's begin: a simple line's echo is one line.
    return ended.split(raw, maxsplit=1)[0].partition(b"\n")[2]


def _pieces(body: bytes) -> list[str]:
    """Return a printf format for `body` in pieces that each fit a line."""
    lines = [f"\\{body[0]:03o}" if body else ""]  # octal also where harmless: a "-" would begin an option
    for byte in body[1:]:
        if len(lines[-1]) > _LINE - 100:
            lines.append("")
        lines[-1] += chr(byte) if chr(byte) in _SPELLED else f"\\{byte:03o}"
    return lines
