"""Supervises one judgement: unpacks, lets a child run pytest, kills everything, sends a signed report.

The report is one JSON object:

    status      "reported"      the child ran pytest to its end
                "died"          the child ended without a report: tested code exited or killed it
                "crashed"       the supervisor failed, or the child ended, or was late, with no test loaded
                "timeout"       it was still running at the deadline
                "too_large"     its report is over 8 MiB
                "bad_report"    what it left is not the JSON of a report
                "bad_tests", "bad_artifacts"   an archive is not what it should be; `out` says why
                "no_room"       nothing can be written where the tests or artifacts go; `out` says why
    timed_out   status == "timeout"
    dropped     the tests ran as another uid, and what they spawned had no rights
    report      null, or {rc, items, canaries, reports: [[node id, when, outcome, wasxfail, end of longrepr]],
                errors: [[node id, end of longrepr]]}; items without canaries, canaries one after each item
    out         the end of what the child and its children printed, 20 kB
    truncated   more than 256 KiB were printed
    s           seconds from the last line of orders to the end of the child

Trusted is only who signs: `report` was made in a process that also ran the tests, and with them whatever they import.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import os
import select
import signal
import termios
import time
from typing import TYPE_CHECKING, NamedTuple

from terminal_gym.trusted_runtime.guest import console, privileges

if TYPE_CHECKING:
    from typing import Any, NoReturn

REPORT = b"\x01TGR1 "
_MOST_OUTPUT, _MOST_REPORT = 256 << 10, 8 << 20
_OUT_TAIL, _CHUNK, _PIPE_READS = 20_000, 1 << 16, 20  # a pipe holds at most 1 MiB
_TICK_MS = 50  # only for what no descriptor tells: where the kernel has no pidfd
_KILL_S = 10.0


class _Child(NamedTuple):
    pid: int
    go: int  # write end: one line of JSON starts it
    report: int  # read end: one byte "1" (dropped) or "0", then the JSON
    output: int  # read end


def judge(orders: dict[str, Any], lines: console.Lines) -> NoReturn:
    """Carry out judging orders, then end."""
    privileges.hide()
    console.write(console.OK)
    # Before the key is read, so that it never is in the child's memory; and while the archives travel and are
    # unpacked, the child imports pytest.
    child = _start_child(orders)
    problem, places = _unpack(orders, lines.read(), lines.read())
    key = bytes.fromhex(lines.read().decode())
    become_deaf()
    started = time.monotonic()
    result: dict[str, Any] = {
        "status": problem[0],
        "report": None,
        "dropped": False,
        "out": problem[1],
        "truncated": False,
    }
    if places is not None:
        console.write(json.dumps(places).encode() + b"\n", child.go)
        try:
            result = _attend(child, started + float(orders["timeout_s"]))
        except Exception as error:  # ours to answer for, and still to be signed
            result |= {"status": "crashed", "out": repr(error)}
    result["s"] = round(time.monotonic() - started, 4)
    result["timed_out"] = result["status"] == "timeout"
    kill_all(child.pid)
    send(result, key)
    os._exit(0)


def _start_child(orders: dict[str, Any]) -> _Child:
    go, report, output = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            from terminal_gym.trusted_runtime.guest import run_pytest

            run_pytest.run(orders, go=go[0], report=report[1], output=output[1])
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    for fd in (go[0], report[1], output[1]):
        os.close(fd)
    return _Child(pid, go[1], report[0], output[0])


def _unpack(
    orders: dict[str, Any], tests: bytes, artifacts: bytes
) -> tuple[tuple[str, str], dict[str, str] | None]:
    """Return what is wrong, and where the child finds its folders, None where something is wrong."""
    from terminal_gym.trusted_runtime.guest import unpack

    uid = orders["drop_to"]
    stage = "bad_artifacts"
    try:
        unpack.clear(orders["clear"])
        unpack.unpack(artifacts, "/", owner=uid)
        stage = "bad_tests"
        place = privileges.make_place(f"tgt-{os.urandom(8).hex()}", len(tests))
        # Without this capability the child could not read what belongs to root.
        reader = None if uid is None or privileges.holds(privileges.DAC_OVERRIDE) else uid
        unpack.unpack(tests, place.path, owner=reader)
        if reader is not None:
            os.chown(place.path, reader, reader)
        privileges.seal(place)
        scratch = _make_scratch(uid)
    except unpack.BadArchive as error:
        return (stage, str(error)), None
    except OSError as error:
        return ("no_room", str(error)), None
    return ("", ""), {"tests": place.path, "scratch": scratch}


def _make_scratch(uid: int | None) -> str:
    """Make a folder that tests may fill: random and exclusive, for /tmp may be the agent's."""
    name = f"tgw-{os.urandom(8).hex()}"
    for parent in ("/tmp", "", "/dev/shm"):
        path = f"{parent}/{name}"
        try:
            os.mkdir(path, 0o700)
        except OSError:
            continue
        if uid is not None:
            try:
                os.chown(path, uid, uid)
            except OSError:  # one mapped uid: then the child stays what we are, too
                pass
        return path
    raise OSError("no folder can be made in /tmp, / or /dev/shm")


def become_deaf() -> None:
    """Nothing more is read from the console: the key was the last line."""
    read_end, write_end = os.pipe()
    os.close(write_end)
    os.dup2(read_end, 0)
    os.close(read_end)


def _attend(child: _Child, deadline: float) -> dict[str, Any]:
    """Wait for the child's end or the deadline, in monotonic seconds, and return what came of it."""
    report, output = _Pipe(child.report), _Pipe(child.output)
    pipes = {pipe.fd: pipe for pipe in (report, output)}
    waiting, ended = select.poll(), False
    for fd in (*pipes, _pidfd(child.pid)):
        if fd >= 0:
            waiting.register(fd, select.POLLIN)
    while not ended and (left := deadline - time.monotonic()) > 0:
        ready = waiting.poll(min(left * 1000, _TICK_MS))
        ended = _reaped(child.pid)  # before the last reading, which then finds all that it wrote
        for fd in pipes if ended else [fd for fd, _ in ready if fd in pipes]:
            if pipes[fd].take(until_empty=ended):
                continue
            if not ended:
                waiting.unregister(fd)
        del report.kept[_MOST_REPORT:], output.kept[:-_MOST_OUTPUT]
    # Before its first byte the child ran nothing but our own code: what is late then is the machine.
    status, document = _judged(report) if ended or not report.total else ("timeout", None)
    return {
        "status": status,
        "report": document,
        "dropped": report.kept[:1] == b"1",
        "out": bytes(output.kept[-_OUT_TAIL:]).decode(errors="replace"),
        "truncated": output.total > _MOST_OUTPUT,
    }


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


class _Pipe:
    """The read end of a pipe, what is kept of it, and how much came."""

    def __init__(self, fd: int):
        os.set_blocking(fd, False)
        self.fd, self.kept, self.total = fd, bytearray(), 0

    def take(self, *, until_empty: bool) -> bool:
        """Read once, or until nothing is there but at most what a pipe can hold; False at the end of the pipe."""
        for _ in range(_PIPE_READS if until_empty else 1):
            try:
                piece = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                return True
            if not piece:
                return False
            self.kept += piece
            self.total += len(piece)
        return True


def _reaped(child: int) -> bool:
    """Reap whatever has ended, orphans too; say whether the child was among it."""
    try:
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            if pid == child:
                return True
    except ChildProcessError:
        return True
    return False


def _judged(report: _Pipe) -> tuple[str, object]:
    if report.total == 0:
        return "crashed", None
    if report.total == 1:
        return "died", None
    if report.total > _MOST_REPORT:
        return "too_large", None
    try:
        document = json.loads(report.kept[1:])
    except (ValueError, RecursionError):
        return "bad_report", None
    return ("reported", document) if _is_report(document) else ("bad_report", None)


def _is_report(document: Any) -> bool:
    """Whether it has a report's shape: tested code may have written it, and neither end shall stumble over it."""

    def rows(name: str, *kinds: type | tuple[type, ...]) -> bool:
        found = document.get(name)
        return isinstance(found, list) and all(
            isinstance(row, list) and len(row) == len(kinds) and all(map(isinstance, row, kinds))
            for row in found
        )

    def names(name: str) -> bool:
        found = document.get(name)
        return isinstance(found, list) and all(isinstance(row, str) for row in found)

    return (
        isinstance(document, dict)
        and document.keys() == {"rc", "items", "canaries", "reports", "errors"}
        and type(document["rc"]) is int
        and names("items")
        and names("canaries")
        and rows("reports", str, str, str, (str, type(None)), str)
        and rows("errors", str, str)
    )


def kill_all(child: int) -> None:
    """Before the report, so that nothing is left that could write after it."""
    until = time.monotonic() + _KILL_S
    while time.monotonic() < until:
        try:
            if os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)
            elif child:  # no process namespace of our own: only what we started
                os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def send(result: dict[str, Any], key: bytes) -> None:
    document = json.dumps(result).encode()
    signature = hmac.new(key, document, hashlib.sha256).hexdigest().encode()
    console.make_raw(1)  # tested code may have reached the terminal through /dev/console, and have stopped it
    termios.tcflow(1, termios.TCOON)
    console.write(b"\n" + REPORT + signature + b" " + binascii.b2a_base64(document))
