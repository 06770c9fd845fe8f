"""Runs a helper inside a sandbox under a time limit, from within: a killed client of the daemon kills nothing.

The guard is the trusted tree's Python. Whatever the helper starts stays below it, also what leaves its session or
loses its parent, and ends with it: at the limit, and when the helper itself ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from terminal_gym.trusted_runtime.tree import INIT_ARGV

TIMED_OUT = 124  # the guard's exit code at the limit, as timeout(1) has it
OUTPUT_CAP = 10 * 1024 * 1024  # bytes kept of each of a helper's streams

_PROGRAM = """
import ctypes, os, signal, sys, time
limit, count = float(sys.argv[1]), int(sys.argv[2])
env = dict(entry.partition("=")[::2] for entry in sys.argv[3 : 3 + count])
argv = sys.argv[3 + count :]
class Late(Exception):
    pass
def late(*_):
    raise Late
def below(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            direct = [int(child) for child in file.read().split()]
    except OSError:
        return []
    return direct + [deeper for child in direct for deeper in below(child)]
def kill_all(until):
    while time.monotonic() < until:
        for pid in below(os.getpid()):
            try:
                os.kill(pid, 9)
            except OSError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
child = os.fork()
if child == 0:
    os.setsid()
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error}".encode(errors="replace"))
    os._exit(127)
signal.signal(signal.SIGALRM, late)
try:
    signal.setitimer(signal.ITIMER_REAL, limit)
    pid = 0
    while pid != child:
        pid, status = os.waitpid(-1, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    code = os.waitstatus_to_exitcode(status)
except Late:
    code = 124
kill_all(time.monotonic() + 5)
os._exit(code if code >= 0 else 128 - code)
"""


def guarded(argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str]) -> list[str]:
    """Return the command line that runs `argv` with exactly `env`, inside a sandbox, for at most `timeout_s`.

    It ends with the helper's status, 128 + signal where one ended it, TIMED_OUT at the limit. The helper's
    variables travel as arguments: in the guard's own environment an LD_PRELOAD would be obeyed.
    """
    entries = [f"{name}={value}" for name, value in env.items()]
    return [*INIT_ARGV[:-1], "-c", _PROGRAM, str(timeout_s), str(len(entries)), *entries, *argv]
