"""Which process waits for a key: the foreground process of a terminal, asleep in a read of that terminal.

Standard library only: the host imports it, PID 1 of a sandbox runs it as a plain file. It needs to read
`/proc/PID/syscall` and to open `/proc/PID/fd/N`, so the right to trace the processes it looks at. What it says
is good for knowing when to look at the screen, never for a verdict: the processes are not trusted.

Source: proc(5), `man 2 syscalls`; the numbers are those of x86-64 and aarch64.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
import termios

TYPE_CHECKING = False  # `typing` costs a third of the boot; the type checker knows the name
if TYPE_CHECKING:
    from collections.abc import Iterator

_READS = {"x86_64": (0, 19), "aarch64": (63, 65)}  # read, readv
_POLLS = {
    "x86_64": (7, 271, 219),
    "aarch64": (73,),
}  # poll, ppoll, and restart_syscall: a poll after a signal
_SELECTS = {"x86_64": (23, 270), "aarch64": (72,)}  # select, pselect6
_EPOLLS = {"x86_64": (232, 281, 441), "aarch64": (22, 441)}  # epoll_wait, epoll_pwait, epoll_pwait2
# Where a system call's timeout stands: the argument, and its unit; "ms" is a number, the others are pointers.
_TIMEOUTS = {
    "x86_64": {
        **{7: (2, "ms"), 219: (2, "ms"), 232: (3, "ms"), 281: (3, "ms")},
        **{271: (2, "ns"), 270: (4, "ns"), 441: (3, "ns"), 23: (4, "us")},
    },
    "aarch64": {73: (2, "ns"), 72: (4, "ns"), 441: (3, "ns"), 22: (3, "ms")},
}

_MACHINE = "aarch64" if os.uname().machine in ("aarch64", "arm64") else "x86_64"
_DEV_TTY, _DEV_PTMX = os.makedev(5, 0), os.makedev(5, 2)
_FOREVER = float("inf")
_MOST_FDS = 1024  # of a poll or select set that are looked at


class _Process:  # no dataclass: importing those costs PID 1 more than all the rest of this file
    __slots__ = ("foreground", "group", "pid", "tty")

    def __init__(self, pid: int, *, group: int, tty: int, foreground: int):
        self.pid = pid
        self.group = group  # process group
        self.tty = tty  # controlling terminal, as a device number; 0: none
        self.foreground = foreground  # process group in the foreground of that terminal; -1: none


def find(root_pid: int, proc: str = "/proc") -> tuple[int, int] | None:
    """Return who is blocked reading the terminal of the tree below `root_pid`, or None.

    The terminal is the controlling one of `root_pid`, or of the nearest process below it that has one. Counted
    is a process of its foreground group, asleep in read, readv, select, poll or epoll_wait on that terminal,
    while nothing lies unread in it. Where such a process keeps further terminals for its children (sudo,
    script, apt), someone must be blocked reading each of those too.

    Returns:
        Process id and voluntary context switches of the sleeping thread: as long as both stay the same, it has
        not run. None also where /proc cannot be read.
    """
    terminal = 0
    for process in _below(root_pid, proc):
        if not process.tty or (terminal and process.tty != terminal):
            continue
        terminal = process.tty
        if process.foreground == process.group:
            switches = _blocked(process, proc)
            if switches is not None and not _busy_inside(process, proc):
                return process.pid, switches
    return None


def _below(root_pid: int, proc: str) -> Iterator[_Process]:
    """Yield the process and all below it, nearest first."""
    queue, seen = [root_pid], {root_pid}
    for pid in queue:  # grows while it is walked
        process = _process(pid, proc)
        if process is None:
            continue
        yield process
        for child in _children(pid, proc):
            if child not in seen:
                seen.add(child)
                queue.append(child)


def _children(pid: int, proc: str) -> Iterator[int]:
    for thread in _names(f"{proc}/{pid}/task"):
        yield from map(int, _text(f"{proc}/{pid}/task/{thread}/children").split())


def _busy_inside(reader: _Process, proc: str) -> bool:
    """Say whether a terminal that the reader keeps for its children has a foreground that does not wait."""
    waits: dict[int, bool] = {}
    for process in _below(reader.pid, proc):
        if process.tty not in (0, reader.tty) and process.foreground == process.group:
            waits[process.tty] = waits.get(process.tty, False) or _blocked(process, proc) is not None
    return not all(waits.values())


def longest_sleep_s(pid: int, proc: str = "/proc") -> float:
    """Return after how many seconds the reader `pid` wakes even without input; infinity where it does not."""
    process = _process(pid, proc)
    for thread in _names(f"{proc}/{pid}/task") if process is not None else ():
        folder = f"{proc}/{pid}/task/{thread}"
        if process is not None and any(True for _ in _awaited(folder, process.tty)):
            call = _system_call(folder)
            return _timeout_s(folder, *call) if call is not None else _FOREVER
    return _FOREVER


def _timeout_s(folder: str, number: int, args: list[int]) -> float:
    place, unit = _TIMEOUTS[_MACHINE].get(number, (-1, ""))
    if unit == "ms":
        milliseconds = args[place] & 0xFFFFFFFF
        return milliseconds / 1000 if milliseconds < 1 << 31 else _FOREVER
    if unit and args[place]:
        memory = _memory(folder, args[place], 16)
        if len(memory) == 16:
            seconds, fraction = struct.unpack("=qq", memory)
            return float(seconds + fraction / (1e9 if unit == "ns" else 1e6))
    return _FOREVER


def write_to_terminal(pid: int, data: bytes, proc: str = "/proc") -> bool:
    """Print `data` on the controlling terminal of a process, after all that was printed there before.

    Returns False where it cannot be opened or takes nothing now; never waits.
    """
    process = _process(pid, proc)
    fd = -1 if process is None else _open_terminal(f"{proc}/{pid}", 0, process.tty)
    if fd < 0:
        return False
    try:
        return os.write(fd, data) == len(data)
    except OSError:
        return False
    finally:
        os.close(fd)


def keeps_empty_terminal(pid: int, proc: str = "/proc") -> bool:
    """Say whether a process holds the far end of a terminal that nobody below it uses: script or sudo, at its end."""
    reader = _process(pid, proc)
    if reader is None or not any(
        _is_multiplexer(f"{proc}/{pid}/fd/{fd}") for fd in _names(f"{proc}/{pid}/fd")
    ):
        return False
    return all(process.tty in (0, reader.tty) for process in _below(pid, proc))


def _is_multiplexer(path: str) -> bool:
    try:
        return os.stat(path).st_rdev == _DEV_PTMX
    except OSError:
        return False


def _process(pid: int, proc: str) -> _Process | None:
    # The name, in brackets, may itself hold brackets and blanks.
    fields = _text(f"{proc}/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 6 or fields[0] in "ZX":
        return None
    return _Process(pid, group=int(fields[2]), tty=int(fields[4]) & 0xFFFFFFFF, foreground=int(fields[5]))


def _blocked(process: _Process, proc: str) -> int | None:
    """Return the context switches of the process's thread that sleeps in a read of its terminal, or None."""
    for thread in _names(f"{proc}/{process.pid}/task"):
        folder = f"{proc}/{process.pid}/task/{thread}"
        before = _asleep(folder)
        if before is None:
            continue
        for fd in _awaited(folder, process.tty):
            # Looked at in this order, a thread that took the last byte and works on it now is not counted.
            if _nothing_unread(folder, fd, process.tty) and _asleep(folder) == before:
                return before
    return None


def _asleep(folder: str) -> int | None:
    """Return the voluntary context switches of a thread in state S, None in any other state."""
    state, switches = "", None
    for line in _text(f"{folder}/status").splitlines():
        name, _, value = line.partition(":")
        if name == "State":
            state = value.strip()[:1]
        elif name == "voluntary_ctxt_switches":
            switches = int(value)
    return switches if state == "S" else None


def _awaited(folder: str, tty: int) -> Iterator[int]:
    """Yield the file descriptors that are the terminal `tty` and that the thread's system call waits for."""
    call = _system_call(folder)
    if call is None:
        return
    number, args = call
    if number in _READS[_MACHINE]:
        fds = iter((args[0],))
    elif number in _POLLS[_MACHINE]:
        fds = _polled(folder, args[0], args[1])
    elif number in _SELECTS[_MACHINE]:
        fds = _selected(folder, args[1], args[0])
    elif number in _EPOLLS[_MACHINE]:
        fds = _epolled(folder, args[0])
    else:
        return
    for fd in fds:
        if _is_terminal(f"{folder}/fd/{fd}", tty):
            yield fd


def _system_call(folder: str) -> tuple[int, list[int]] | None:
    words = _text(f"{folder}/syscall").split()
    if len(words) < 7:  # "running", or not ours to know
        return None
    return int(words[0]), [int(word, 16) for word in words[1:7]]


def _polled(folder: str, address: int, count: int) -> Iterator[int]:
    """Source: `struct pollfd` of poll(2): int fd, short events, short revents."""
    for fd, events, _ in struct.iter_unpack("=ihh", _memory(folder, address, 8 * min(count, _MOST_FDS))):
        if fd >= 0 and events & select.POLLIN:
            yield fd


def _selected(folder: str, address: int, count: int) -> Iterator[int]:
    """Source: `fd_set` of select(2): one bit per descriptor, lowest first (both machines are little-endian)."""
    bits = int.from_bytes(_memory(folder, address, (min(count, _MOST_FDS) + 7) // 8), "little")
    yield from (fd for fd in range(min(count, _MOST_FDS)) if bits >> fd & 1)


def _epolled(folder: str, epoll_fd: int) -> Iterator[int]:
    """Source: proc(5), /proc/PID/fdinfo of an epoll descriptor: `tfd: 5 events: 19 …`, events in hex."""
    for line in _text(f"{folder}/fdinfo/{epoll_fd}").splitlines():
        words = line.split()
        if words[:1] == ["tfd:"] and int(words[3], 16) & select.EPOLLIN:
            yield int(words[1])


def _is_terminal(path: str, tty: int) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    if not stat.S_ISCHR(found.st_mode):
        return False
    return found.st_rdev == _DEV_TTY or _same_device(found.st_rdev, tty)


def _same_device(device: int, tty: int) -> bool:
    # stat's tty_nr has minor bits 0-7 at 0-7 and 8-19 at 20-31, the major number in between; source: proc(5).
    return os.major(device) == (tty >> 8 & 0xFFF) and os.minor(device) == (tty & 0xFF | tty >> 12 & 0xFFF00)


def _open_terminal(folder: str, fd: int, tty: int) -> int:
    """Return a new descriptor of the terminal `tty`, which a process has at `fd` or a standard one; -1: none.

    /dev/tty does not do: it would open the terminal of whoever asks.
    """
    for candidate in (fd, 0, 1, 2):
        path = f"{folder}/fd/{candidate}"
        try:
            if not _same_device(os.stat(path).st_rdev, tty):
                continue
            opened = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            continue
        if _same_device(os.fstat(opened).st_rdev, tty):  # the process may have exchanged it meanwhile
            return opened
        os.close(opened)
    return -1


def _nothing_unread(folder: str, fd: int, tty: int) -> bool:
    """Say whether the terminal holds no input; polling also flushes what the kernel has queued for it."""
    opened = _open_terminal(folder, fd, tty)
    if opened < 0:
        return True  # no path to it, or no right to open it: the sleep itself must do
    try:
        poll = select.poll()
        poll.register(opened, select.POLLIN)
        if poll.poll(0):
            return False
        waiting: int = struct.unpack("i", fcntl.ioctl(opened, termios.FIONREAD, b"\0" * 4))[0]
        return waiting == 0
    except OSError:
        return True
    finally:
        os.close(opened)


def _memory(folder: str, address: int, length: int) -> bytes:
    if not address or length <= 0:
        return b""
    try:
        fd = os.open(f"{folder}/mem", os.O_RDONLY)
    except OSError:
        return b""
    try:
        read = os.pread(fd, length, address)
        return read[: len(read) // 8 * 8] if length % 8 == 0 else read
    except (OSError, OverflowError):
        return b""
    finally:
        os.close(fd)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(path: str) -> str:
    # os.open, not open(): half the time, and this is the hot path.
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
