"""What the host tells PID 1 of a sandbox, and what PID 1 answers: the wire format, both ends.

Every sandbox boots the same trusted program as PID 1 (`guest/init.py`, run by the interpreter of the trusted
tree). It puts its terminal into raw mode, prints READY, reads one line of orders, prints OK or an error, and
then becomes either the keeper of one shell or the supervisor of one judgement. The file system survives a
stop, so the same sandbox can be booted with a shell first and with a judgement later.

    guest → host   READY                                "\x01TG1 ready\n"
    host → guest   one line: base64(JSON of orders)     ShellOrders, JudgeOrders or ScriptOrders
    guest → host   OK                                   "\x01TG1 ok\n"
                   or ERROR                             "\x01TG1 error <base64 JSON {kind, message}>\n"
    shell: the terminal is made sane again, and from the byte after OK on it belongs to the shell
    judge: see JudgeOrders
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field

READY = b"\x01TG1 ready\n"
OK = b"\x01TG1 ok\n"
ERROR = b"\x01TG1 error "
REPORT = b"\x01TGR1 "
OFFLINE = "terminal-gym shim: OFFLINE:"  # begins what guest/shim says when it would need the network
SHIM = "/tg/guest/shim/bin"  # first in PATH while a test script runs with the shim
BASH = "/tg/bin/bash"


@dataclass(frozen=True)
class ShellOrders:
    """Keep one interactive shell on the terminal until it exits, then exit with its status."""

    nonce: str  # names this session in every OSC 133 mark; 16 hex digits
    shells: tuple[str, ...] = ("bash", "zsh", "ash", "dash", "sh")  # first one that exists is taken
    env: dict[str, str] = field(default_factory=dict)  # the image's environment and the task's
    user: str = ""  # name or numeric uid[:gid]; "": root
    cwd: str = "/"  # made if missing
    kind: str = "shell"


@dataclass(frozen=True)
class JudgeOrders:
    r"""Run one pytest judgement (or one collection) and send a signed report.

    After OK the host sends two more lines: base64 of a tar with the tests, and base64 of a tar with the
    artifacts (may be empty). PID 1 unpacks them, forks the pytest child, and only then reads a fourth
    line with the key (64 hex digits), so that the child never holds it. The report is one line:
    `\x01TGR1 <hmac-sha256 hex> <base64 JSON>`; the HMAC is over the bytes of the JSON text (before base64), its
    key is `bytes.fromhex` of the fourth line. The JSON is described in `guest/judge.py`.
    """

    args: tuple[str, ...]  # node ids or files to run, relative to the tests folder
    timeout_s: float
    cwd: str = "/"
    collect_only: bool = False
    canary: str = ""  # "": no canaries (collection)
    drop_to: int | None = 64321  # uid of whatever the tests spawn; None: stay as we are
    own_conftest: bool = False
    clear: tuple[
        str, ...
    ] = ()  # absolute paths removed before the artifacts are unpacked: what the agent deleted is gone
    env: dict[str, str] = field(default_factory=dict)
    kind: str = "judge"


@dataclass(frozen=True)
class ScriptOrders:
    """Run a format's own test script with nothing else running, and send a signed report.

    After OK the host sends three more lines: base64 of a tar for `tests`, base64 of a tar of artifacts for `/` (may be
    empty), and the key. The report is a line as JudgeOrders says; its JSON is described in `guest/script.py`.
    """

    argv: tuple[str, ...]
    timeout_s: float
    env: dict[str, str]  # all of it, but for HOME, USER and LOGNAME, which `user` gives
    user: str = ""  # "": root
    cwd: str = "/"  # `/` if it is gone
    tests: str = "/tests"
    wipe: tuple[str, ...] = ()  # folders emptied before anything is unpacked
    clear: tuple[str, ...] = ()  # paths removed before the artifacts are unpacked
    make: tuple[str, ...] = ()  # folders made, for everybody to write to
    read: tuple[str, ...] = ()  # files whose content goes into the report
    kind: str = "script"


Orders = ShellOrders | JudgeOrders | ScriptOrders


def encode(orders: Orders) -> bytes:
    """Return the line that carries `orders`, newline included."""
    return base64.b64encode(json.dumps(asdict(orders)).encode()) + b"\n"
