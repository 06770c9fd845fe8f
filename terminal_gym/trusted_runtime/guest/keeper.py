"""Keeps one shell on the terminal: starts it, reaps what is orphaned, says when input is awaited, ends with it."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` costs 5 ms to import, a third of the boot
import os
import termios
import time

from terminal_gym.trusted_runtime.guest import accounts, console

TYPE_CHECKING = False  # `typing` costs a third of the boot; the type checker knows the name
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, NoReturn

_STDIN = 0
_NONCE_FD = 9  # the shell's start-up file reads the nonce here: no environment block holds it
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HEARD = (_signal.SIGCHLD, _signal.SIGUSR1, _signal.SIGTERM)
_IGNORED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR2", "SIGALRM")
_HINT_TRIES_S = 60.0
_KILLED = 137  # says that PID 1 itself was killed, from outside: no end of a shell may say so


def keep(orders: dict[str, Any]) -> NoReturn:
    """Run the ordered shell until it exits, then end with its status, 128 + signal where one ended it.

    A shell that ends with 137, killed or not, is told as 136.
    """
    env = dict(orders["env"])
    env.setdefault("PATH", _PATH)
    shell = find_shell(orders["shells"], env["PATH"])
    if shell is None:
        console.fail(
            "no_shell", f"none of {', '.join(orders['shells'])} is in {env['PATH']}, /bin or /usr/bin"
        )
    try:
        account = accounts.resolve(orders["user"])
        accounts.check_mapped(account)
    except LookupError as error:
        console.fail("no_user", str(error.args[0]))
    home = {"HOME": account.home, "USER": account.name, "TERM": "xterm-256color", "SHELL": shell[1]}
    argv = _integrate(*shell, env)
    _take_terminal()
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _HEARD)
    for name in _IGNORED:
        _signal.signal(getattr(_signal, name), _signal.SIG_IGN)
    console.write(console.OK)
    console.make_sane()
    pid = os.fork()
    if pid == 0:
        _become_shell(argv, home | env, account, orders)
    _hide()
    _watch(pid, orders["nonce"])


def find_shell(names: list[str], path: str) -> tuple[str, str] | None:
    """Return (name, path) of the first of `names` that is an executable file; an absolute name is taken as it is."""
    folders = [*filter(None, path.split(":")), "/bin", "/usr/bin", "/usr/local/bin"]
    for name in names:
        for folder in ("",) if name.startswith("/") else folders:
            candidate = f"{folder}/{name}" if folder else name
            if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                return name.rpartition("/")[2], candidate
    return None


def _integrate(name: str, path: str, env: dict[str, str]) -> list[str]:
    """Return the command line that makes the shell read our start-up file; may add to `env`."""
    folder = __file__.rpartition("/")[0] + "/shell"
    if name == "bash" and os.path.isfile(f"{folder}/bashrc"):
        return [path, "--rcfile", f"{folder}/bashrc", "-i"]
    if name == "zsh" and os.path.isfile(f"{folder}/zsh/.zshrc"):
        env["ZDOTDIR"] = f"{folder}/zsh"
    elif name in ("ash", "dash", "sh", "busybox") and os.path.isfile(f"{folder}/shrc"):
        env["ENV"] = f"{folder}/shrc"
    return [path, "sh", "-i"] if name == "busybox" else [path, "-i"]


def _take_terminal() -> None:
    """Make the console our controlling terminal, unless it is already that of the session we were started in."""
    try:
        os.tcgetpgrp(_STDIN)
    except OSError:
        import fcntl

        try:
            os.setsid()
            fcntl.ioctl(_STDIN, termios.TIOCSCTTY, 0)
        except OSError:
            pass  # a shell without job control is better than none


def _become_shell(
    argv: list[str], env: dict[str, str], account: accounts.Account, orders: dict[str, Any]
) -> NoReturn:
    try:
        os.setpgid(0, 0)
        _go_to(orders["cwd"])
        _hand_over(orders["nonce"].encode() + b"\n")
        try:
            os.tcsetpgrp(_STDIN, os.getpid())  # SIGTTOU is still ignored here
        except OSError:
            pass
        for number in range(1, _signal.NSIG):
            if number not in (_signal.SIGKILL, _signal.SIGSTOP, 32, 33):  # 32, 33: the C library's own
                _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        if (account.uid, account.gid) != (0, 0) or os.getuid() == 0:
            _switch(account)
        os.execve(argv[0], argv, env)
    except BaseException as error:
        console.write(f"terminal-gym: {argv[0]} cannot be started: {error}\r\n".encode())
    os._exit(127)


def _switch(account: accounts.Account) -> None:
    try:
        os.fchown(_STDIN, account.uid, -1)  # or the user could not open /dev/stderr
    except OSError:
        pass
    try:
        os.setgroups(account.groups)
    except OSError:
        if account.groups:  # one mapped gid only: nothing to give up
            os.setgroups([])
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)


def _go_to(folder: str) -> None:
    for candidate in (folder, "/"):
        try:
            os.makedirs(candidate, exist_ok=True)
            os.chdir(candidate)
        except OSError:
            continue
        return


def _hand_over(nonce: bytes) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, nonce)
    os.close(write_end)
    os.dup2(read_end, _NONCE_FD, inheritable=True)
    if read_end != _NONCE_FD:
        os.close(read_end)


def _hide() -> None:
    """Deny the shell, root as it may be, our memory and descriptors. After the fork: it costs 4 ms."""
    import ctypes

    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def _watch(shell: int, nonce: str) -> NoReturn:
    hint = _Hint(shell, nonce)
    while True:
        heard = _signal.sigtimedwait(_HEARD, hint.pause_s) if hint.pause_s else _signal.sigwaitinfo(_HEARD)
        # The kernel gives 0 as the sender where it is outside of our process namespace: what runs in the sandbox
        # cannot end PID 1 or ask it for hints.
        from_host = heard is None or heard.si_pid == 0 or os.getpid() != 1
        if heard is None:
            hint.look()
        elif heard.si_signo == _signal.SIGCHLD:
            _reap(shell)
        elif heard.si_signo == _signal.SIGUSR1 and from_host:
            hint.restart()
        elif heard.si_signo == _signal.SIGTERM and from_host:
            _end_all()


def _end_all() -> NoReturn:
    """Kill everything, then end. Killed ourselves, we would hang up the terminal first, and run a trap for it."""
    if os.getpid() == 1:
        try:
            os.kill(-1, _signal.SIGKILL)
        except OSError:  # nothing is left
            pass
    os._exit(128 + _signal.SIGTERM)


def _reap(shell: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == shell:
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code
            os._exit(code if code != _KILLED else _KILLED - 1)


class _Hint:
    """Prints once, on request, that the foreground process waits for input: seen twice, not having run between.

    The message names the sleep by process and context switches, so that an answer that comes late is known as such.
    """

    def __init__(self, shell: int, nonce: str):
        self._shell = shell
        self._nonce = nonce
        self._until = 0.0
        self._seen: tuple[int, int] | None = None
        self._reader: ModuleType | None = None
        self.pause_s = 0.0  # to the next look; 0: nobody asks

    def restart(self) -> None:
        if self._reader is None:
            try:
                from terminal_gym.trusted_runtime.guest import blocked_reader
            except ImportError:
                return
            self._reader = blocked_reader
        self._until, self._seen, self.pause_s = time.monotonic() + _HINT_TRIES_S, None, 0.001
        self.look()

    def look(self) -> None:
        assert self._reader is not None
        try:
            found = self._reader.find(self._shell)
        except (OSError, ValueError):  # a process that ended while it was looked at
            found = None
        if found is not None and found == self._seen:
            self.pause_s = 0.0
            console.write(b"\x1b]6973;%s;waiting;%d.%d\x07" % (self._nonce.encode(), *found))
        elif time.monotonic() > self._until:
            self.pause_s = 0.0
        else:
            self.pause_s = 0.003 if found is not None else min(self.pause_s * 1.5, 0.020)
            self._seen = found
