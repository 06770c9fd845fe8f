"""What every runtime promises: one suite, run for each that works on this machine.

Helpers inside the sandboxes are written for the trusted tree's Python, so that the image may be anything.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from terminal_gym.errors import ImageMissing, NoShell, OversizedArchive
from terminal_gym.sandbox.base import Console, Runtime, Sandbox, SandboxSpec
from terminal_gym.tasks.task import Limits
from terminal_gym.trusted_runtime.orders import ShellOrders
from terminal_gym.trusted_runtime.tree import GUEST

IMAGE = "tgym-test/base:1"
PYTHON = f"{GUEST}/bin/python3"
NONCE = "c0ffee00c0ffee00"
MIB = 1024 * 1024
Start = Callable[..., Sandbox]

# Answers TERM, HUP and INT with nothing, and keeps forking children that leave the session.
IMMUNE_TREE = """
import os, signal, time
for name in ('SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT'):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        open('/started', 'a').write('x')
        while True:
            time.sleep(60)
time.sleep(60)
"""


class Keys:
    """A shell typed at without a Session: each question is answered before the next is asked."""

    def __init__(self, console: Console):
        self.console, self._count = console, itertools.count()
        self.ask("true")

    def type(self, data: bytes) -> None:
        self.console.stream.send(data)  # type: ignore[attr-defined]

    def ask(self, command: str, *, timeout_s: float = 20.0) -> str:
        """Return what was printed, echo included, once the shell has taken the line and is done with it."""
        number = next(self._count)
        self.type(f"{command}\necho e''nd-{number}\n".encode())
        self.console.stream.expect_exact([f"end-{number}\r\n".encode()], timeout=timeout_s)
        return (self.console.stream.before or b"").decode(errors="replace")


@pytest.fixture
def start(any_runtime: Runtime) -> Iterator[Start]:
    """Starts sandboxes under names of their own and closes them."""
    with ExitStack() as held:

        def started(*, image: str = IMAGE, share_network_of: str | None = None, **limits: float) -> Sandbox:
            spec = SandboxSpec(
                image,
                f"contract-{uuid.uuid4().hex[:12]}",
                Limits(**limits),  # type: ignore[arg-type]
                share_network_of=share_network_of,
            )
            return held.enter_context(any_runtime.start(spec))

        yield started


def booted(sandbox: Sandbox, **orders: str) -> Keys:
    shell = ShellOrders(NONCE, env=dict(sandbox.image.env), cwd=orders.get("cwd", sandbox.image.workdir))
    return Keys(sandbox.boot(shell, rows=24, cols=80))


def needs_limit(runtime: Runtime, name: str) -> None:
    missing = tuple(getattr(runtime, "missing_limits", tuple)())
    if any(name in entry for entry in missing):
        pytest.skip(f"{runtime.name} cannot enforce {name} here")


def names_in(archive: bytes | None) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive or b"")) as tar:
        return sorted(tar.getnames())


def content_of(archive: bytes | None, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive or b"")) as tar:
        member = tar.extractfile(name)
        assert member is not None
        return member.read()


# ── images ──────────────────────────────────────────────────────────────────────────────────────


def test_image_tells_its_environment(any_runtime: Runtime) -> None:
    image = any_runtime.image(IMAGE)
    assert image.name == IMAGE
    assert image.digest.startswith("sha256:")
    assert image.env["COLOUR"] == "green"
    assert image.workdir == "/work"


def test_missing_image_is_named(any_runtime: Runtime) -> None:
    with pytest.raises(ImageMissing, match="tgym-test/none:1"):
        any_runtime.image("tgym-test/none:1")
    with pytest.raises(ImageMissing, match="tgym-test/none:1"):
        any_runtime.start(SandboxSpec("tgym-test/none:1", "contract-none"))


# ── boot ────────────────────────────────────────────────────────────────────────────────────────


def test_boot_gives_a_shell_in_its_place(start: Start) -> None:
    keys = booted(start())
    assert "green in /work" in keys.ask('echo "$COLOUR in $PWD"')
    assert "hello" in keys.ask("cat greeting")


def test_pid_1_has_nothing_of_the_image(start: Start) -> None:
    keys = booted(start())
    assert "PYTHONPATH=/" not in keys.ask("tr '\\0' '\\n' < /proc/1/environ")
    assert "cannot" in keys.ask(f"touch {GUEST}/x 2>/dev/null || echo can''not")


def test_resize_reaches_the_terminal(start: Start) -> None:
    keys = booted(start())
    assert "24 80" in keys.ask("stty size")
    keys.console.resize(50, 132)
    assert "50 132" in keys.ask("stty size")


def test_control_keys_are_delivered(start: Start) -> None:
    keys = booted(start())
    program = "\n".join(
        (
            "import os, tty",
            "tty.setraw(0)",
            "print('ra' + 'w', flush=True)",
            "keys = b''",
            "while len(keys) < 7:",
            "    keys += os.read(0, 7)",
            "print(keys.hex())",
        )
    )
    keys.type(f'{PYTHON} -c "{program}"\n'.encode())
    keys.console.stream.expect_exact([b"raw\n"], timeout=10)
    for key in b"\x10\x11\x13\x1a\x1c\x00a":  # ^P ^Q ^S ^Z ^\ ^@; the last one releases what a NUL holds back
        keys.type(bytes([key]))
    keys.console.stream.expect_exact([b"1011131a1c0061"], timeout=10)
    keys.type(b"\x03\n")
    assert "alive" in keys.ask("stty sane; echo al''ive")


def test_exit_code_is_the_shells(start: Start) -> None:
    keys = booted(start())
    assert keys.console.exit_code() is None
    keys.type(b"exit 7\n")
    deadline = time.monotonic() + 10
    while (code := keys.console.exit_code()) is None and time.monotonic() < deadline:
        pass
    assert code == 7


def test_init_pid_is_the_hosts_view(start: Start) -> None:
    sandbox = start()
    console = booted(sandbox).console
    pid = console.init_pid()
    if pid is None:
        pytest.skip("the host's /proc cannot be read from here")
    # A child of the nursery has the nursery's command line.
    assert re.search(rb"/tg/guest/(init|nursery)\.py", Path(f"/proc/{pid}/cmdline").read_bytes())
    sandbox.stop()
    assert not is_alive(pid)


def test_hint_is_given_on_request(start: Start) -> None:
    keys = booted(start())
    keys.console.ask_for_hint()
    keys.console.stream.expect([rf"\x1b\]6973;{NONCE};waiting;\d+\.\d+\x07".encode()], timeout=10)


def test_no_shell_is_the_tasks_fault(start: Start) -> None:
    with pytest.raises(NoShell):
        start(image="tgym-test/bare:1").boot(ShellOrders(NONCE))


# ── stop, and boot again ────────────────────────────────────────────────────────────────────────


def test_stop_kills_what_ignores_signals(start: Start) -> None:
    sandbox = start()
    keys = booted(sandbox)
    pid = keys.console.init_pid()
    keys.type(f'{PYTHON} -c "{IMMUNE_TREE}"\n'.encode())
    while sandbox.read_archive("/started", limit_bytes=MIB) is None:
        pass
    before = descendants(pid) if pid else set()
    sandbox.stop()
    sandbox.stop()
    assert not {child for child in before if is_alive(child)}


def test_boot_after_stop_keeps_files_and_no_process(start: Start) -> None:
    sandbox = start()
    booted(sandbox).ask("echo kept > /tmp/file; sleep 1000 & sleep 1000 & echo")
    sandbox.stop()
    keys = booted(sandbox)
    assert "kept" in keys.ask("cat /tmp/file")
    assert "no sleepers" in keys.ask("grep -l sle''ep /proc/[0-9]*/comm || echo no slee''pers")


def test_boot_stops_what_still_runs(start: Start) -> None:
    sandbox = start()
    first = booted(sandbox).console.init_pid()
    assert "hello" in booted(sandbox).ask("cat greeting")
    assert first is None or not is_alive(first)


def test_stop_before_boot_does_nothing(start: Start) -> None:
    sandbox = start()
    sandbox.stop()
    assert "hello" in booted(sandbox).ask("cat greeting")


def test_boot_survives_a_wrecked_root(start: Start) -> None:
    sandbox = start()
    booted(sandbox).type(
        b"rm -rf --no-preserve-root /usr /lib /lib64 /bin /sbin /etc 2>/dev/null; echo; exit\n"
    )
    while sandbox.read_archive("/etc/passwd", limit_bytes=MIB) is not None:
        pass
    sandbox.stop()
    with pytest.raises(NoShell):
        sandbox.boot(ShellOrders(NONCE))


# ── what was written ────────────────────────────────────────────────────────────────────────────


def test_read_archive_of_a_file_and_a_folder(start: Start) -> None:
    sandbox = start()
    booted(sandbox).ask("echo one > many/one; ln -s /etc/shadow link")
    for _ in range(2):  # of a running sandbox, then of a stopped one
        assert content_of(sandbox.read_archive("/work/many/one", limit_bytes=MIB), "one") == b"one\n"
        folder = sandbox.read_archive("/work/many", limit_bytes=MIB)
        assert names_in(folder) == ["many", "many/one", "many/two"]
        with tarfile.open(
            fileobj=io.BytesIO(sandbox.read_archive("/work/link", limit_bytes=MIB) or b"")
        ) as tar:
            assert tar.getmember("link").issym()
        assert sandbox.read_archive("/work/none", limit_bytes=MIB) is None
        assert sandbox.read_archive("/none/at/all", limit_bytes=MIB) is None
        sandbox.stop()


def test_read_archive_keeps_to_its_limit(start: Start) -> None:
    sandbox = start(disk_mb=100_000)
    booted(sandbox).ask(
        "head -c 300000 /dev/zero > many/big; truncate -s 50G /sparse; mkdir d; truncate -s 50G d/s"
    )
    sandbox.stop()
    began = time.monotonic()
    for path in ("/work/many", "/work/many/big", "/sparse", "/work/d"):
        with pytest.raises(OversizedArchive):
            sandbox.read_archive(path, limit_bytes=100_000)
    assert time.monotonic() - began < 10
    assert sandbox.read_archive("/work/many", limit_bytes=MIB) is not None


def test_written_bytes_and_changed_paths(start: Start) -> None:
    sandbox = start()
    booted(sandbox).ask(
        "head -c 3000000 /dev/zero > many/big; rm greeting; mkdir -p /srv/a; echo x > /srv/a/b"
    )
    sandbox.stop()
    assert 3_000_000 <= sandbox.written_bytes() < 6_000_000
    changed = sandbox.changed_paths()
    assert {"/work/many/big", "/work/greeting", "/srv/a", "/srv/a/b"} <= set(changed)
    assert "/etc/passwd" not in changed
    assert not any(path.startswith(GUEST) for path in changed)
    assert len(sandbox.changed_paths(limit=2)) == 2


# ── helpers ─────────────────────────────────────────────────────────────────────────────────────


def test_run_tells_what_happened(start: Start) -> None:
    sandbox = start()
    booted(sandbox)
    program = "import sys; sys.stdout.buffer.write(b'o\\xff'); sys.stderr.write('e'); sys.exit(3)"
    ran = sandbox.run([PYTHON, "-c", program], timeout_s=20)
    assert (ran.exit_code, ran.stdout, ran.stderr) == (3, b"o\xff", b"e")
    assert not ran.timed_out
    assert sandbox.run(["sh", "-c", "kill -9 $$"], timeout_s=20).exit_code == 137
    assert sandbox.run(["no-such-program"], timeout_s=20).exit_code == 127
    assert sandbox.run(["pwd"], timeout_s=20, cwd="/work/many").stdout == b"/work/many\n"
    said = sandbox.run(
        ["sh", "-c", "echo $COLOUR $SHAPE"], timeout_s=20, env={"SHAPE": "round", "PATH": "/bin"}
    )
    assert said.stdout == b"round\n"


def test_run_kills_the_whole_tree_at_its_limit(start: Start) -> None:
    sandbox = start()
    keys = booted(sandbox)
    began = time.monotonic()
    ran = sandbox.run([PYTHON, "-c", IMMUNE_TREE], timeout_s=1.0)
    assert ran.timed_out
    assert time.monotonic() - began < 8
    assert "none left" in keys.ask(
        "grep -l IMM''UNE /proc/[0-9]*/environ; grep -lz setsid /proc/[0-9]*/cmdline || echo none le''ft"
    )


def test_run_caps_its_output(start: Start) -> None:
    sandbox = start()
    booted(sandbox)
    ran = sandbox.run(["head", "-c", "12000000", "/dev/zero"], timeout_s=60)
    assert ran.truncated
    assert len(ran.stdout) == 10 * MIB


# ── network ─────────────────────────────────────────────────────────────────────────────────────


# Root's own settings of the machine: a file that asks for no capability is open to whoever is uid 0.
OPEN_SETTINGS = """
import os
print([f"{at}/{name}" for at, _, names in os.walk("/proc/sys") for name in names if os.access(f"{at}/{name}", os.W_OK)])
print([f for f in ("/proc/sysrq-trigger", "/proc/kcore", "/proc/keys") if os.access(f, os.F_OK) and os.path.getsize(f)])
"""


def test_no_setting_of_this_machine_is_within_reach(start: Start) -> None:
    with start() as sandbox:
        Keys(sandbox.boot(ShellOrders(NONCE)))
        told = sandbox.run([PYTHON, "-c", OPEN_SETTINGS], timeout_s=20.0)
        assert told.stdout.split() == [b"[]", b"[]"]


def test_no_network_is_no_route(start: Start) -> None:
    keys = booted(start(network=False))
    assert "interfaces: lo." in keys.ask(
        "echo interfaces: $(tail -n +3 /proc/net/dev | cut -d: -f1 | grep -v -e tun -e sit -e gre -e vti)."
    )
    program = "import socket; socket.create_connection(('192.0.2.1', 80), 3)"
    assert "unreachable" in keys.ask(f'{PYTHON} -c "{program}"')


def test_sibling_reaches_the_loopback_service(start: Start) -> None:
    service = start()
    serve = (
        "import socket; s = socket.create_server(('127.0.0.1', 7777)); print('list'+'ening', flush=True); "
        "[s.accept()[0].sendall(b'from the first') for _ in range(2)]"
    )
    keys = booted(service)
    keys.type(f'{PYTHON} -c "{serve}" &\n'.encode())
    keys.console.stream.expect_exact([b"listening"], timeout=10)
    ask = f"{PYTHON} -c \"import socket; print(socket.create_connection(('127.0.0.1', 7777), 5).recv(99))\""
    assert "from the first" in booted(start(share_network_of=service.name)).ask(ask)
    assert "refused" in booted(start()).ask(ask)


# ── limits ──────────────────────────────────────────────────────────────────────────────────────


def test_fork_bomb_is_bounded(any_runtime: Runtime, start: Start) -> None:
    needs_limit(any_runtime, "pids")
    sandbox = start(pids=64)
    keys = booted(sandbox)
    keys.type(b"bomb() { bomb | bomb & }; bomb 2>/dev/null\n")
    pid = keys.console.init_pid()
    if pid is not None:
        most = max(len(descendants(pid)) for _ in range(50))
        assert most <= 2 * 64  # they come and go while they are counted
    began = time.monotonic()
    sandbox.stop()
    assert time.monotonic() - began < 10


def test_memory_is_bounded(any_runtime: Runtime, start: Start) -> None:
    needs_limit(any_runtime, "memory")
    sandbox = start(memory_mb=128)
    keys = booted(sandbox)
    assert "Killed" in keys.ask(f"{PYTHON} -c 'bytearray(400 << 20)' || echo Kil''led")
    assert "alive" in keys.ask("echo al''ive")


def test_a_file_cannot_outgrow_the_disk(start: Start) -> None:
    sandbox = start(disk_mb=8)
    keys = booted(sandbox)
    keys.ask("head -c 20000000 /dev/zero > /work/big")
    size = keys.ask("stat -c si''ze=%s /work/big").rsplit("size=", 1)[1].split()[0]
    assert int(size) <= 8 * MIB


# ── owners ──────────────────────────────────────────────────────────────────────────────────────


def test_two_sandboxes_do_not_see_each_other(start: Start) -> None:
    first, second = booted(start()), booted(start())
    first.ask("echo secret > /tmp/secret; sleep 4242 & echo")
    assert "nothing" in second.ask("ls /tmp/secret 2>/dev/null || echo not''hing")
    assert "nobody" in second.ask("grep -lz 42''42 /proc/[0-9]*/cmdline || echo no''body")


def test_close_is_final_and_may_be_repeated(any_runtime: Runtime) -> None:
    spec = SandboxSpec(IMAGE, f"contract-{uuid.uuid4().hex[:12]}")
    for _ in range(2):  # the name is free again
        sandbox = any_runtime.start(spec)
        pid = booted(sandbox).console.init_pid()
        sandbox.close()
        sandbox.close()
        assert pid is None or not is_alive(pid)
    any_runtime.start(spec).close()  # never booted


def test_many_at_once(start: Start) -> None:
    def episode(number: int) -> bool:
        sandbox = start()
        said = booted(sandbox).ask(f"echo numb''er {number}")
        sandbox.close()
        return f"number {number}" in said

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert all(pool.map(episode, range(24)))


def test_a_killed_owners_sandbox_is_reaped(any_runtime: Runtime) -> None:
    name = f"contract-{uuid.uuid4().hex[:12]}"
    program = (
        "import sys, time\n"
        "from terminal_gym.sandbox.base import SandboxSpec, open_runtime\n"
        "from terminal_gym.trusted_runtime.orders import ShellOrders\n"
        "sandbox = open_runtime(sys.argv[1]).start(SandboxSpec(sys.argv[2], sys.argv[3]))\n"
        f"print(sandbox.boot(ShellOrders({NONCE!r})).init_pid(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, any_runtime.name, IMAGE, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONWARNINGS": "default"},
    ) as owner:
        assert owner.stdout is not None
        line = owner.stdout.readline().decode().strip()
        assert line, "the owner could not boot a sandbox"
        any_runtime.reap()
        if line.isdecimal():
            assert is_alive(int(line)), "a living owner's sandbox was reaped"
        owner.send_signal(signal.SIGKILL)
    any_runtime.reap()
    if line.isdecimal():
        deadline = time.monotonic() + 10
        while is_alive(int(line)):
            assert time.monotonic() < deadline
    any_runtime.start(SandboxSpec(IMAGE, name)).close()  # the name is free again


def is_alive(pid: int) -> bool:
    """Whether that process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def descendants(pid: int) -> set[int]:
    """`pid` and every process below it."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        found.add(current)
        with contextlib.suppress(OSError):  # it may end while it is looked at
            for path in Path(f"/proc/{current}/task").glob("*/children"):
                waiting += [int(child) for child in path.read_text().split()]
    return found


def test_an_archive_of_ours_lands_where_it_says(start: Start) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, mode in (("given/by/host", 0o640), ("given/run", 0o755)):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = mode, 2
            tar.addfile(entry, io.BytesIO(b"ok"))
    sandbox = start()
    sandbox.write_archive(made.getvalue())
    keys = Keys(sandbox.boot(ShellOrders(NONCE)))
    assert "okok" in keys.ask("cat /given/by/host /given/run").replace("\r\n", "")
    keys.ask("echo mine > /given/run; rm -r /given/by")
    sandbox.write_archive(made.getvalue())
    assert "okok" in keys.ask("cat /given/by/host /given/run").replace("\r\n", "")
    assert "640 0" in keys.ask("stat -c '%a %u' /given/by/host")
