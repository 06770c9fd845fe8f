"""Supervises a format's own test script as PID 1: nothing else runs; signs what came of it. See `ScriptOrders`.

    report      {status, exit_code, out, omitted, files: {path: base64 or null}, s}
    status      "ran", "timeout", "not_run" (see attend.py); "bad_archive", "no_room", "crashed": `out` says why

The folders to wipe are emptied before anything is unpacked: a link or file in their place is replaced, so what an agent
planted there, a conftest.py or a reward, is gone. Everything is killed before the reward files are read; they are read
only where they are plain files. Trusted is who signs. The script runs in a machine that may be the agent's.
"""

from __future__ import annotations

import base64
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING

from terminal_gym.trusted_runtime.guest import attend, console, judge, privileges, unpack

if TYPE_CHECKING:
    from typing import Any, NoReturn

_MOST_BYTES = 1 << 20


def run(orders: dict[str, Any], lines: console.Lines) -> NoReturn:
    """Carry out script orders, then end."""
    privileges.hide()
    console.write(console.OK)
    tests, artifacts = lines.read(), lines.read()
    key = bytes.fromhex(lines.read().decode())
    judge.become_deaf()
    started = time.monotonic()
    try:
        result = _prepared(orders, tests, artifacts) or attend.attend(orders)
    except Exception as error:  # ours to answer for, and still to be signed
        result = {"status": "crashed", "exit_code": 0, "out": repr(error), "omitted": 0}
    judge.kill_all(0)
    result["files"] = {path: _read(path) for path in orders["read"]}
    result["s"] = round(time.monotonic() - started, 4)
    judge.send(result, key)
    os._exit(0)


def _prepared(orders: dict[str, Any], tests: bytes, artifacts: bytes) -> dict[str, Any] | None:
    """Wipe, make folders, unpack; returns the result where that cannot be done."""
    try:
        for path in orders["wipe"]:
            _empty(path)
        unpack.clear(orders["clear"])
        unpack.unpack(artifacts, "/")
        for path in orders["make"]:
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o777)
        unpack.unpack(tests, orders["tests"])
    except unpack.BadArchive as error:
        return {"status": "bad_archive", "exit_code": 0, "out": str(error), "omitted": 0}
    except OSError as error:
        return {"status": "no_room", "exit_code": 0, "out": str(error), "omitted": 0}
    return None


def _empty(path: str) -> None:
    """Leave an empty folder at `path`, also where a link or a file is now, there or above it."""
    parts = path.strip("/").split("/")
    for depth in range(1, len(parts) + 1):
        place = "/" + "/".join(parts[:depth])
        if os.path.islink(place) or (os.path.lexists(place) and not os.path.isdir(place)):
            os.unlink(place)
        if depth == len(parts) and os.path.isdir(place):
            shutil.rmtree(place)
        os.makedirs(place, exist_ok=True)


def _read(path: str) -> str | None:
    """Base64 of a plain file's start, None where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return base64.b64encode(file.read(_MOST_BYTES + 1)).decode()
