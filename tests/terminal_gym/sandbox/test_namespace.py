"""What the embedded runtime adds to the contract: an ordinary user, no bubblewrap, what it hides, what it leaves."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import platform
import resource
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit.waiting import wait_until

from terminal_gym.errors import ImageMissing, RuntimeUnavailable, SandboxLost, StartFailed
from terminal_gym.sandbox import cgroup, keeper, launch, nursery
from terminal_gym.sandbox.base import SandboxSpec, open_runtime
from terminal_gym.sandbox.namespace import Namespace, _collect
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Limits
from terminal_gym.trusted_runtime.orders import ShellOrders
from terminal_gym.trusted_runtime.tree import cache_folder, trusted_tree

ROOT = Path(__file__).parents[3]
ORDERS = ShellOrders("c0ffee00c0ffee00")
# Run as root in a mount namespace of its own: an ordinary user's view of this machine, in which the interpreter
# can be reached even where it lies in root's home folder.
AS_USER = """
set -e
work=$1; trusted=$2; shift 2
mount -t tmpfs -o mode=755 tgym "$work"
mkdir -p "$work/u" "$work/w" "$work/tmp" "$work/cache/terminal-gym"
chmod 755 "$work/u"; chmod 1777 "$work/tmp"
cp -a "$trusted" "$work/cache/terminal-gym/trusted"
chown -R 65534:65534 "$work/cache"
mount -t overlay -o lowerdir=/root,upperdir="$work/u",workdir="$work/w" tgym /root
export XDG_CACHE_HOME="$work/cache" TMPDIR="$work/tmp" HOME="$work/tmp" PYTHONDONTWRITEBYTECODE=1
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Namespace]:
    opened = Namespace(tmp_path / "store")
    try:
        opened.check()
    except RuntimeUnavailable as error:
        pytest.skip(str(error))
    yield opened
    opened.close()


def spec(**limits: float) -> SandboxSpec:
    return SandboxSpec("host", f"ns-{uuid.uuid4().hex[:12]}", Limits(**limits))  # type: ignore[arg-type]


def said(runtime: Namespace, script: str, **limits: float) -> str:
    with runtime.start(spec(**limits)) as sandbox:
        sandbox.boot(ORDERS)
        return sandbox.run(["sh", "-c", script], timeout_s=20).stdout.decode()


# ── what is hidden ──────────────────────────────────────────────────────────────────────────────


def test_the_hosts_root_shows_nobodys_business(runtime: Namespace) -> None:
    assert said(runtime, "ls -A /root /home /var/log /srv /mnt") == (
        "/home:\n\n/mnt:\n\n/root:\n\n/srv:\n\n/var/log:\n"
    )
    found = said(
        runtime, "ls -d /etc/ssh /etc/sudoers /etc/machine-id /etc/ssl/private /run/docker.sock /work 2>&1"
    )
    assert found.count("No such file") == found.count("\n") == 6
    accounts = said(runtime, "cat /etc/passwd /etc/shadow")
    assert not [
        line
        for line in said(runtime, "cat /etc/passwd").splitlines()
        if 1000 <= int(line.split(":")[2]) < 65534
    ]
    assert all(line.split(":")[1] in ("x", "*") for line in accounts.splitlines())


def test_nothing_of_the_outside_can_be_reached(runtime: Namespace) -> None:
    assert said(runtime, "ls -id / /.. /root/.. | awk '{print $1}' | sort -u | wc -l").strip() == "1"
    bounding = said(runtime, "grep CapEff /proc/self/status").split()[1]
    assert int(bounding, 16) == 0x404FB
    assert "NoNewPrivs:\t1" in said(runtime, "cat /proc/self/status")
    assert said(runtime, "mount -t tmpfs x /mnt 2>/dev/null || echo refused") == "refused\n"
    assert said(runtime, "hostname") == "sandbox\n"


def test_the_hosts_variables_stay_outside(runtime: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "do-not-show")
    assert "do-not-show" not in said(runtime, "env; cat /proc/1/environ")


def test_the_disk_has_a_size(runtime: Namespace) -> None:
    if "disk_mb" in runtime.missing_limits():
        pytest.skip("what is written is not limited here")
    script = "for i in 1 2 3 4; do head -c 3000000 /dev/zero >/f$i; done 2>&1; cat /f* | wc -c"
    assert int(said(runtime, script, disk_mb=8).split()[-1]) <= 8 << 20


# ── life and death ──────────────────────────────────────────────────────────────────────────────


def test_nothing_is_left_behind(runtime: Namespace) -> None:
    with runtime.start(spec()) as sandbox:
        console = sandbox.boot(ORDERS)
        folder, pid = sandbox._folder, console.init_pid()
        assert folder is not None
        assert folder.name not in Path("/proc/self/mounts").read_text()
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/terminal-gym/{folder.name}"))


def test_a_closed_sandbox_says_so(runtime: Namespace) -> None:
    sandbox = runtime.start(spec())
    sandbox.close()
    with pytest.raises(SandboxLost, match="closed"):
        sandbox.boot(ORDERS)
    with pytest.raises(SandboxLost, match="not booted"):
        sandbox.run(["true"], timeout_s=1)


def test_a_name_is_held_once(runtime: Namespace) -> None:
    wanted = spec()
    with runtime.start(wanted), pytest.raises(StartFailed, match="already held"):
        runtime.start(wanted)


def test_a_kernel_that_refuses_is_quoted(tmp_path: Path) -> None:
    lost = keeper.Rootfs((tmp_path / "layers" / "gone",))
    (tmp_path / "layers").mkdir()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StartFailed, match="mount"):
        keeper.Keeper(tmp_path / "folder", lost, size_mb=1)


def test_thirty_two_at_once(runtime: Namespace) -> None:
    runtime.image("host")

    def episode(_: int) -> int:
        with runtime.start(spec()) as sandbox:
            sandbox.boot(ORDERS, deadline_s=120)
            return len(sandbox.changed_paths())

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        assert list(pool.map(episode, range(64))) == [0] * 64


@pytest.mark.parametrize("starter", ["nursery", "unshare"])
def test_a_process_with_thousands_of_open_files_starts_sandboxes(
    runtime: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter: str
) -> None:
    """`select` knows no descriptor above 1,023."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1500:
        pytest.skip("fewer open files are allowed here")
    _started_by(starter, tmp_path, monkeypatch)
    with contextlib.ExitStack() as opened:
        for _ in range(1100):
            opened.enter_context(Path(os.devnull).open("rb"))
        assert said(runtime, "echo up") == "up\n"


# Each is refused, and what programs need in their place is not: threads, children, locks.
CALLS = """
import ctypes, errno, fcntl, os, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
tree = os.open("/tg/bin/python3", os.O_RDONLY)
def refused(call, *args):
    return (ctypes.get_errno() if call(*args) == -1 else 0) == errno.EPERM
print(refused(libc.unshare, 0x10000000), refused(libc.fcntl, tree, 1024, 1))
print(refused(libc.unshare, 0x80), refused(libc.socket, 40, 1, 0), refused(libc.personality, 0x40000))
print(*(refused(libc.syscall, number, 0, 0, 0, 0, 0) for number in {numbers}))
newer = [libc.syscall(number, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() == errno.ENOSYS for number in (451, 462)]
print(*newer, libc.personality(0xffffffff) == 0)
thread = threading.Thread(target=fcntl.flock, args=(tree, fcntl.LOCK_SH))
thread.start(); thread.join()
print(libc.unshare(0x400), subprocess.run(["true"]).returncode)
"""
NUMBERS = {
    "x86_64": (248, 250, 321, 298, 425, 312, 239, 279, 438, 440),
    "aarch64": (217, 219, 280, 241, 425, 272, 236, 239, 438, 440),
}


@pytest.mark.skipif(platform.machine() not in NUMBERS, reason="call numbers of this processor are not listed")
@pytest.mark.parametrize("starter", ["nursery", "bubblewrap", "unshare"])
def test_calls_that_reach_past_the_sandbox_are_refused(
    runtime: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter: str
) -> None:
    _started_by(starter, tmp_path, monkeypatch)
    program = CALLS.replace("{numbers}", repr(NUMBERS[platform.machine()]))
    with runtime.start(spec()) as sandbox:
        console = sandbox.boot(ORDERS)
        for run_by in ("shell", "helper"):
            if run_by == "shell":  # a child of PID 1
                line = f"/tg/bin/python3 -c {shlex.quote(program)}; echo e''nd\n"
                console.stream.send(line.encode())
                console.stream.expect_exact([b"end\r\n"], timeout=20)
                told = (console.stream.before or b"").decode()
            else:
                told = sandbox.run(["/tg/bin/python3", "-c", program], timeout_s=20).stdout.decode()
            told = told.replace("\x07", " ")
            assert told.split()[-20:] == ["True"] * 18 + ["0", "0"], (run_by, told)


@pytest.mark.parametrize("by_nursery", [True, False])
def test_folders_that_are_shown_as_they_are_cannot_be_written_to(
    runtime: Namespace, tmp_path: Path, by_nursery: bool
) -> None:
    if by_nursery and not nursery.is_possible():
        pytest.skip("no nursery: not root, or an old kernel")
    shown, layer = tmp_path / "shown", tmp_path / "layer"
    shown.mkdir()
    (shown / "file").write_text("ours")
    (layer / str(shown).lstrip("/")).mkdir(parents=True)
    folder = tmp_path / "held"
    folder.mkdir()
    rootfs = keeper.Rootfs((layer,), bound=(shown,))
    with contextlib.closing(keeper.Keeper(folder, rootfs, size_mb=8, by_nursery=by_nursery)) as held:
        inside = f"{held.base}/r{shown}"
        write = [
            *held.enter(),
            "sh",
            "-c",
            f"cat {inside}/file && ! echo theirs >{inside}/file && touch {inside}/new",
        ]
        ran = subprocess.run(write, capture_output=True, text=True, check=False)
    assert (ran.returncode != 0, ran.stdout) == (True, "ours")
    assert ran.stderr.count("Read-only file system") == 2
    assert [path.name for path in shown.iterdir()] == ["file"]


def test_bubblewrap_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever trusts its walls more than ours; the name in every record says so."""
    with contextlib.closing(open_runtime("namespace:bubblewrap", store=tmp_path)) as asked:
        if shutil.which("bwrap") is None:
            pytest.skip("bubblewrap is missing")
        asked.check()
        assert asked.name == "namespace:bubblewrap"
        with asked.start(spec()) as sandbox:
            sandbox.boot(ORDERS)
            assert b"init.py" in sandbox.run(["cat", "/proc/1/cmdline"], timeout_s=10).stdout
        monkeypatch.setenv("PATH", _only(tmp_path, "sh", "unshare", "nsenter", "mount", "find"))
        with pytest.raises(RuntimeUnavailable, match="bwrap is missing, which namespace:bubblewrap asks for"):
            asked.check()


# ── other machines ──────────────────────────────────────────────────────────────────────────────


def _only(folder: Path, *names: str) -> str:
    """Return a PATH on which nothing is but those programs."""
    tools = folder / "tools"
    tools.mkdir()
    for name in names:
        (tools / name).symlink_to(str(shutil.which(name)))
    return str(tools)


def _started_by(starter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sandboxes started as root on this kernel is, as on an older one, or as without bubblewrap."""
    if starter == "nursery":
        if not nursery.is_possible():
            pytest.skip("no nursery: not root, or an old kernel")
        return
    monkeypatch.setattr(
        nursery, "is_possible", lambda: False
    )  # as where it is not: `starter` is tried elsewhere
    if starter == "unshare":
        monkeypatch.setenv("PATH", _only(tmp_path, "sh", "unshare", "nsenter", "mount", "find"))
    elif shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is missing")


@pytest.mark.parametrize("starter", ["nursery", "bubblewrap", "unshare"])
def test_the_walls_are_the_same_whoever_builds_them(
    runtime: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter: str
) -> None:
    _started_by(starter, tmp_path, monkeypatch)
    assert said(runtime, "ls -id / /.. /root/.. | awk '{print $1}' | sort -u | wc -l").strip() == "1"
    rights = said(runtime, "grep ^Cap /proc/self/status").split()[1::2]
    # Inheritable, permitted, effective, bounding.
    assert rights[:4] == ["0" * 16, *["00000000000404fb"] * 3]
    assert said(runtime, "test -c /dev/null && echo yes") == "yes\n"
    assert said(runtime, "find /proc/sys -type f -writable | wc -l; cat /proc/keys | wc -c").split() == [
        "0",
        "0",
    ]
    assert said(runtime, "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status").split()[1::2] == ["1", "2"]
    assert said(runtime, "ls /proc/1/cwd/ /proc/1/root/ 2>&1 | grep -c 'Permission denied'") == "2\n"
    assert said(runtime, "touch /tg/x 2>&1").endswith("Read-only file system\n")
    assert said(runtime, "mknod /tmp/node c 1 3 2>&1").endswith("Operation not permitted\n")
    assert said(runtime, "cat /proc/1/environ 2>&1").endswith("Permission denied\n")
    assert said(runtime, "wc -l </proc/net/dev; cat /proc/net/if_inet6 | awk '{print $6}'").split() == [
        "3",
        "lo",
    ]
    nodes = {
        "fd",
        "full",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
    }
    assert set(said(runtime, "ls /dev").split()) - {"console", "core"} == nodes | {"zero"}
    assert said(runtime, "stat -c %a /dev/shm; stat -c %a /dev/null; stat -c %a /tmp").split() == [
        "1777",
        "666",
        "1777",
    ]


@pytest.mark.skipif(not nursery.is_possible(), reason="no nursery: not root, or an old kernel")
@pytest.mark.parametrize("name", ["dev", "proc", "tg"])
def test_a_link_where_the_walls_are_built_is_refused(runtime: Namespace, name: str) -> None:
    """What is trusted would otherwise be mounted where an image wants it."""
    with runtime.start(spec()) as sandbox:
        held = sandbox._place().keeper
        place = f"{held.base}/r/{name}"
        link = f"mkdir {held.base}/r/elsewhere; rm -rf {place}; ln -s elsewhere {place}"
        subprocess.run([*held.enter(), "sh", "-c", link], check=True)
        with pytest.raises(StartFailed, match=f"/{name} of the image is not a folder"):
            sandbox.boot(ORDERS)


@pytest.mark.skipif(not nursery.is_possible(), reason="no nursery: not root, or an old kernel")
def test_a_nursery_that_has_died_is_replaced_and_its_sandboxes_are_lost(runtime: Namespace) -> None:
    with runtime.start(spec()) as sandbox:
        console = sandbox.boot(ORDERS)
        os.kill(nursery.nursery()._process.pid, signal.SIGKILL)
        assert wait_until(lambda: console.init_pid() is None, deadline_s=10)
        assert console.lost(ended=True) == "it was killed from outside"
        with pytest.raises(StartFailed, match="cannot be started"):
            sandbox.boot(ORDERS)
    assert said(runtime, "echo well") == "well\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user, so it starts as root")
def test_an_ordinary_user_passes_the_contract() -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is missing")
    trusted_tree()
    subset = "namespace and (boot or network or sibling or archive or written or helper or test_run or close)"
    with tempfile.TemporaryDirectory(
        prefix="tgym-user-"
    ) as work:  # pytest's own folders are closed to others
        command = ["unshare", "-m", "sh", "-c", AS_USER, "tgym", work, str(cache_folder()), sys.executable]
        # Nobody but root can remove the host's folders, so there the root cannot be wrecked.
        command += ["-m", "pytest", "tests/contracts/test_sandbox.py", "-q", "-p", "no:cacheprovider"]
        command += ["-k", f"{subset} and not wrecked"]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    if ran.returncode in (126, 127):
        pytest.skip(f"an ordinary user cannot run this interpreter: {ran.stderr[-300:]}")
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4000:]


class LateSelector(selectors.DefaultSelector):
    """A selector on a busy machine: after a look in vain, the thread is back only when the child has ended."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(timeout)
        if not events and timeout:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        return events


def _running(command: list[str]) -> Callable[[int, int], launch.Started]:
    return lambda out, err: subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)


def test_what_a_program_wrote_last_is_read_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "DefaultSelector", LateSelector)
    last = ["sh", "-c", "sleep 0.2; echo late; echo on both >&2"]
    assert _collect(_running(last), limit=100, timeout_s=30.0) == (0, b"late\n", b"on both\n", False)


def test_a_child_that_keeps_the_pipes_is_not_waited_for() -> None:
    began = time.monotonic()
    assert _collect(_running(["sh", "-c", "sleep 20 & echo done"]), limit=100, timeout_s=30.0)[:2] == (
        0,
        b"done\n",
    )
    assert time.monotonic() - began < 10.0


def test_an_image_that_a_sandbox_or_a_snapshot_stands_on_stays(runtime: Namespace, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /kept\n")
    recipe = ImageRecipe("tgym-test/held:1", context)
    runtime.build(recipe)
    with runtime.start(SandboxSpec(recipe.name, f"ns-{uuid.uuid4().hex[:12]}")) as sandbox:
        with pytest.raises(StartFailed, match="uses it"):
            runtime.remove_image(recipe.name)
        kept = sandbox.snapshot()
    with kept, pytest.raises(StartFailed, match="uses it"):
        runtime.remove_image(recipe.name)
    assert runtime.image(recipe.name).name == recipe.name
    runtime.remove_image(recipe.name)
    with pytest.raises(ImageMissing):
        runtime.image(recipe.name)


def test_what_was_frozen_when_its_owner_died_is_thawed_and_removed(runtime: Namespace) -> None:
    held = cgroup.Cgroup(f"frozen-{uuid.uuid4().hex[:12]}", Limits())
    name = Path(held.entrances[0]).parent.name if held.entrances else ""
    if not name:
        pytest.skip("no control groups can be made here")
    argv = ["sh", "-c", "for group; do echo 0 >$group; done; exec sleep 60", "sh", *held.entrances]
    with subprocess.Popen(argv) as sleeper:
        inside = Path(held.entrances[-1])
        assert wait_for(lambda: str(sleeper.pid) in inside.read_text().split())
        with held.frozen() as still:
            if still:
                sleeper.kill()
                cgroup.remove_named(name)
                assert sleeper.wait(timeout=10) < 0
        sleeper.kill()
    held.close()
    assert not inside.parent.exists()


def wait_for(claim: Callable[[], bool], *, deadline_s: float = 10.0) -> bool:
    until = time.monotonic() + deadline_s
    while not claim() and time.monotonic() < until:
        pass
    return claim()
