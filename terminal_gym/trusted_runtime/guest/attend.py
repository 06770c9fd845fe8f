"""Runs one script with nothing on its input, and says how it ended: `python3 attend.py <base64 JSON>`.

In: {argv, env, user, cwd, timeout_s}. Out, one JSON object: {status, exit_code, out, omitted}, where status is "ran",
"timeout" or "not_run".
`out` is what it and its children printed, both streams together: the first 256 KiB and the last 4 MiB, `omitted` bytes
between them. A child that stays in the background and keeps the pipe does not hold it up: the script's own end counts.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING

if __name__ == "__main__":  # beside the shell; as part of PID 1, init.py has done this
    for _name in ("terminal_gym", "terminal_gym.trusted_runtime", "terminal_gym.trusted_runtime.guest"):
        _package = type(sys)(_name)
        _package.__path__ = [__file__.rpartition("/")[0]] if _name.endswith(".guest") else []
        sys.modules[_name] = _package

from terminal_gym.trusted_runtime.guest import accounts

if TYPE_CHECKING:
    from typing import Any

_HEAD, _TAIL, _CHUNK = 256 << 10, 4 << 20, 1 << 16
_TICK_S = 0.02
SHIM = "/tg/guest/shim/bin"


def attend(orders: dict[str, Any]) -> dict[str, Any]:
    """Run the script to its end or the deadline; what it started in its own session is killed at the deadline."""
    try:
        account = accounts.resolve(orders["user"])
        accounts.check_mapped(account)
    except LookupError as error:
        return {"status": "not_run", "exit_code": 126, "out": str(error), "omitted": 0}
    env = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name} | orders["env"]
    if SHIM in env.get("PATH", "").split(":"):
        write_uv_env(env["HOME"], account)
    output, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(orders, env, account, ours)
    os.close(ours)
    os.set_blocking(output, False)
    kept = _Kept(output)
    ended = False
    deadline = time.monotonic() + float(orders["timeout_s"])
    status = 0
    while not ended and time.monotonic() < deadline:
        select.select([] if kept.closed else [output], [], [], _TICK_S)
        kept.take(16)
        found, status = os.waitpid(pid, os.WNOHANG)
        ended = found == pid
    if not ended:
        _kill_session(pid)
        _, status = os.waitpid(pid, 0)
    kept.take(64)
    os.close(output)
    code = os.waitstatus_to_exitcode(status)
    return {
        "status": "ran" if ended else "timeout",
        "exit_code": code if code >= 0 else 128 - code,
    } | kept.text()


def write_uv_env(home: str, account: accounts.Account) -> None:
    """Put our `env` where uv's installer puts its own, in place of whatever lies there: scripts source it."""
    import shutil

    path = f"{home.rstrip('/')}/.local/bin/env"
    try:
        for folder in (f"{home.rstrip('/')}/.local", f"{home.rstrip('/')}/.local/bin"):
            if os.path.islink(folder) or not os.path.isdir(folder):
                _remove(folder, shutil.rmtree)
                os.makedirs(folder)
                os.chown(folder, account.uid, account.gid)
        _remove(path, shutil.rmtree)
        with open(path, "x") as file:
            file.write(f'export PATH="{SHIM}:$PATH"\n')
    except OSError:  # a read-only home: then there is nothing to source either
        pass


def _remove(path: str, rmtree: Any) -> None:
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.lexists(path):
        rmtree(path)


def _become(orders: dict[str, Any], env: dict[str, str], account: accounts.Account, output: int) -> None:
    try:
        os.setsid()
        nothing, write_end = os.pipe()
        os.close(write_end)
        for target, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source, target)
        try:
            os.chdir(orders["cwd"])
        except OSError:
            os.chdir("/")
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if (account.uid, account.gid) != (0, 0):
            os.setgroups(account.groups)
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
        os.execvpe(orders["argv"][0], orders["argv"], env)
    except BaseException as error:
        os.write(2, f"{orders['argv'][0]}: {error}\n".encode(errors="replace"))
    os._exit(127)


def _kill_session(pid: int) -> None:
    """Kill every process whose session is that of `pid`."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                if os.getsid(int(entry)) == pid:
                    os.kill(int(entry), signal.SIGKILL)
            except OSError:
                pass
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


class _Kept:
    """The head and the tail of what came through a pipe."""

    def __init__(self, fd: int):
        self._fd, self.closed = fd, False
        self._head, self._tail, self._total = bytearray(), bytearray(), 0

    def take(self, reads: int) -> None:
        for _ in range(reads):
            try:
                piece = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                return
            if not piece:
                self.closed = True
                return
            self._total += len(piece)
            room = _HEAD - len(self._head)
            self._head += piece[:room]
            self._tail += piece[max(0, room) :]
            del self._tail[:-_TAIL]

    def text(self) -> dict[str, Any]:
        omitted = self._total - len(self._head) - len(self._tail)
        middle = f"\n[… {omitted} bytes left out …]\n".encode() if omitted else b""
        return {"out": bytes(self._head + middle + self._tail).decode(errors="replace"), "omitted": omitted}


if __name__ == "__main__":
    import base64
    import json

    print(json.dumps(attend(json.loads(base64.b64decode(sys.argv[1])))))
