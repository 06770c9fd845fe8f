"""Calls functions of the agent's code in a process of its own: `Remote("/app/mod.py").add(2, 3)`.

A test that imports what it judges can be cheated from within: by an `__eq__` that is always true, by patched
reports, by an exit. Across a process only JSON comes back: null, booleans, numbers, strings, lists and dicts with
string keys, of exactly these types (a tuple comes back as a list). Every call is a fresh process.

The process has no rights where the judge dropped its own (`drop_to`), reads neither tests nor report, and is killed
with all its children's process group at the end of the call. What it prints goes to the error text, not to the result.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_PIPE_READS = 20  # of 64 KiB each: what a pipe can hold, not what a leftover child goes on writing
_MOST_RESULT = 1 << 20  # bytes; of what is printed, as much is kept
_OURS = (sys.executable, "-I", "-S", "-B", "-X", "utf8")

# Runs in the interpreter that the test chose, so it speaks every Python 3. The result has a descriptor of its own.
_WORKER = r"""
import json, os, sys
request = json.loads(sys.stdin.buffer.read().decode("utf-8"))
result = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
path = request["path"]
sys.path.insert(0, os.path.dirname(path))
sys.argv = [path]
import importlib.util
name = os.path.splitext(os.path.basename(path))[0]
spec = importlib.util.spec_from_file_location(name, path)
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
value = module
for part in request["name"].split("."):
    value = getattr(value, part)
if request["call"]:
    value = value(*request["args"], **request["kwargs"])
result.write(json.dumps(value))
result.flush()
os._exit(0)
"""


class RemoteError(AssertionError):
    """The call gave no value: it raised, exited, ran out of time, or returned what is not JSON."""


class Remote:
    """The functions of one Python file of the agent's.

    Args:
        path: The file, absolute.
        python: Command of the interpreter, such as `["/usr/bin/python3", "-B"]` for code that needs packages of the
            image; the default is the trusted one, with the standard library alone.
        timeout_s: Bound of each call in wall-clock seconds.
        cwd: Working directory; the default is the file's folder.
        env: Environment; the default is the test's.
        uid: User to become, where the tests run as root.
    """

    def __init__(
        self,
        path: str,
        *,
        python: Sequence[str] = _OURS,
        timeout_s: float = 30.0,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
    ):
        self._path, self._python, self._timeout_s = path, list(python), timeout_s
        self._cwd, self._env, self._uid = cwd or os.path.dirname(path) or "/", env, uid

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function that calls `name` over there."""
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._ask({"name": name, "call": True, "args": args, "kwargs": kwargs})

        return call

    def value(self, name: str) -> Any:
        """Return the module's variable `name`, as JSON carries it.

        Raises:
            RemoteError: See there.
        """
        return self._ask({"name": name, "call": False})

    def _ask(self, request: dict[str, Any]) -> Any:
        what = f"{self._path}: {request['name']}"
        status, out, errors = self._run(json.dumps({"path": self._path, **request}).encode(), what)
        said = f"\n{errors[-4000:].decode(errors='replace')}"
        if status != 0 or len(out) > _MOST_RESULT:
            found = f"ended with status {status}" if status else f"returned more than {_MOST_RESULT} bytes"
            raise RemoteError(f"{what} {found}{said}")
        try:
            return json.loads(out)
        except ValueError as error:
            raise RemoteError(f"{what} returned no JSON: {error}{said}") from None

    def _run(self, request: bytes, what: str) -> tuple[int, bytes, bytes]:
        identity: dict[str, Any] = (
            {} if self._uid is None else {"user": self._uid, "group": self._uid, "extra_groups": []}
        )
        process = subprocess.Popen(
            [*self._python, "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._cwd,
            env=self._env,
            start_new_session=True,
            **identity,
        )
        try:
            return _talk(process, request, time.monotonic() + self._timeout_s, what)
        finally:
            _end(process)


def _talk(
    process: subprocess.Popen[bytes], request: bytes, deadline: float, what: str
) -> tuple[int, bytes, bytes]:
    """Send the request, return status, output and errors; output beyond the limits is read and thrown away."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    kept = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as ready:
        os.set_blocking(process.stdin.fileno(), False)
        ready.register(process.stdin, selectors.EVENT_WRITE)
        ready.register(process.stdout, selectors.EVENT_READ)
        ready.register(process.stderr, selectors.EVENT_READ)
        # The result is whole once the worker has ended; its children may hold the pipes open for ever.
        while process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise RemoteError(f"{what} was still running at its time limit")
            for key, _ in ready.select(min(left, 0.02)):
                stream: Any = key.fileobj
                if stream is process.stdin:
                    request = _send(stream, request)
                    done = not request
                else:
                    done = not _keep(stream, kept[stream])
                if done:
                    ready.unregister(stream)
                    stream.close()
    for stream, text in kept.items():
        if not stream.closed:
            os.set_blocking(stream.fileno(), False)
            for _ in range(_PIPE_READS):
                if not _keep(stream, text):
                    break
    return process.returncode, bytes(kept[process.stdout]), bytes(kept[process.stderr])


def _send(stream: Any, request: bytes) -> bytes:
    try:
        return request[os.write(stream.fileno(), request) :]
    except BrokenPipeError:
        return b""


def _keep(stream: Any, into: bytearray) -> bool:
    """Read what is there once; False where nothing more is to be had now."""
    try:
        piece = os.read(stream.fileno(), 1 << 16)
    except BlockingIOError:
        return False
    into += piece[: max(0, _MOST_RESULT + 1 - len(into))]
    return bool(piece)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream and not stream.closed:
            stream.close()
