"""What every runtime promises of snapshots: a value, whatever the sandbox does later; branches that are apart.

Run for each runtime that works on this machine, with the image's own shell as the hand that writes.
"""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from terminal_gym.errors import OversizedArchive, SandboxLost, StartFailed
from terminal_gym.sandbox.base import Runtime, Sandbox, SandboxSpec, Snapshot
from terminal_gym.tasks.task import Limits
from terminal_gym.trusted_runtime.orders import ShellOrders

IMAGE = "tgym-test/base:1"
NONCE = "c0ffee00c0ffee00"
Start = Callable[..., Sandbox]


@pytest.fixture
def start(any_runtime: Runtime) -> Iterator[Start]:
    """Starts and boots sandboxes, from the image or from a snapshot, and closes them."""
    with ExitStack() as held:

        def started(origin: Snapshot | None = None, **limits: float) -> Sandbox:
            spec = SandboxSpec(IMAGE, f"contract-{uuid.uuid4().hex[:12]}", Limits(**limits))  # type: ignore[arg-type]
            sandbox = held.enter_context((origin or any_runtime).start(spec))
            sandbox.boot(ShellOrders(NONCE, env=dict(sandbox.image.env), cwd="/work"), rows=24, cols=80)
            return sandbox

        yield started


def type_in(sandbox: Sandbox, line: str) -> None:
    """Type a line that begins something in the background; returns once it has made the file `ticks`."""
    # What a helper starts dies with the helper, what the shell starts does not.
    console = sandbox.boot(ShellOrders(NONCE, cwd="/work"), rows=24, cols=80)
    console.stream.send(f"{line}\n".encode())  # type: ignore[attr-defined]
    assert "there" in sh(
        sandbox, "for i in $(seq 500); do test -s ticks && echo there && break; sleep 0.02; done"
    )


def sh(sandbox: Sandbox, script: str) -> str:
    """Return what a script printed, both streams."""
    ran = sandbox.run(["/bin/sh", "-c", f"exec 2>&1; cd /work; {script}"], timeout_s=30)
    return ran.stdout.decode(errors="replace")


def test_everything_written_is_there_and_everything_deleted_is_gone(
    any_runtime: Runtime, start: Start
) -> None:
    parent = start()
    sh(
        parent,
        "echo new >new; echo more >>greeting; mkdir -p deep/er; echo x >deep/er/x; ln -s deep link;"
        "ln new twin; chmod 000 new; touch -d 2001-02-03 old; mkfifo pipe;"
        "rm /etc/issue; rm -rf /usr/share/doc; mkdir /usr/share/doc; echo mine >/usr/share/doc/mine",
    )
    with parent.snapshot() as kept:
        branch = start(kept)
    assert sh(branch, "cat twin deep/er/x link/er/x; tail -1 greeting").split() == ["new", "x", "x", "more"]
    assert sh(branch, "stat -c '%a %h' new; stat -c %Y old; test -p pipe && echo pipe").split() == [
        *("0", "2"),
        *(sh(parent, "stat -c %Y old").strip(), "pipe"),
    ]
    assert "No such" in sh(branch, "ls /etc/issue")
    assert (
        sh(branch, "ls /usr/share/doc") == "mine\n"
    )  # nothing of the image shines through a folder made anew
    sh(branch, "echo both >twin")
    # An Engine's layers keep both names and lose that they are one file, as overlays do.
    assert sh(branch, "cat new").strip() == ("both" if any_runtime.name == "namespace" else "new")


def test_a_snapshot_is_a_value(start: Start) -> None:
    parent = start()
    sh(parent, "echo before >file")
    kept = parent.snapshot()
    sh(parent, "echo after >file; echo after >later; rm greeting")
    first, second = start(kept), start(kept)
    assert sh(first, "cat file; ls [a-l]*") == "before\nfile\ngreeting\n"
    sh(first, "echo first >file; rm greeting; echo first >mine")
    assert sh(second, "cat file; ls [a-l]*") == "before\nfile\ngreeting\n"
    assert sh(start(kept), "cat file; ls [a-l]*") == "before\nfile\ngreeting\n"
    assert sh(parent, "cat file; ls [a-l]*") == "after\nfile\nlater\n"
    parent.close()
    assert sh(start(kept), "cat file") == "before\n"
    kept.close()
    kept.close()
    assert sh(first, "cat file") == "first\n"  # goes on without it
    with pytest.raises(StartFailed, match="closed"):
        start(kept)


def test_branches_of_branches_outlive_what_they_came_from(start: Start) -> None:
    sandbox, kept = start(), []
    for depth in range(4):
        sh(sandbox, f"echo {depth} >>depth; rm -f only-{depth - 1}; touch only-{depth}")
        kept.append(sandbox.snapshot())
        sandbox.close()
        sandbox = start(kept[-1])
        if depth:
            kept[depth - 1].close()
    assert sh(sandbox, "cat depth; ls only-*").split() == ["0", "1", "2", "3", "only-3"]
    kept[-1].close()
    assert sh(sandbox, "tail -1 depth").strip() == "3"


def test_changes_and_bytes_count_from_the_image(any_runtime: Runtime, start: Start) -> None:
    parent = start()
    sh(parent, "head -c 3000000 /dev/urandom >big; echo x >gone; echo '#' >>/bin/sh-of-mine; rm /etc/issue")
    with parent.snapshot() as kept:
        branch = start(kept)
    assert kept.image == branch.image == any_runtime.image(IMAGE)
    sh(branch, "echo y >own; rm gone")
    changed = set(branch.changed_paths())
    assert {"/work/big", "/bin/sh-of-mine", "/etc/issue", "/work/own"} <= {
        path.replace("/usr/bin", "/bin") for path in changed
    }
    assert "/work/gone" not in changed  # the image never had it
    assert branch.written_bytes() >= 3_000_000
    branch.stop()
    assert branch.written_bytes() >= 3_000_000
    branch.boot(ShellOrders(NONCE, cwd="/work"), rows=24, cols=80)
    assert "big" in sh(branch, "ls")


def test_the_sandbox_goes_on_as_it_was(start: Start) -> None:
    parent = start()
    type_in(parent, "(while :; do echo x >>ticks; sleep 0.01; done) >/dev/null 2>&1 &")
    with parent.snapshot() as kept:
        count = int(sh(parent, "sleep 0.3; wc -l <ticks"))
        assert int(sh(parent, "sleep 0.3; wc -l <ticks")) > count  # nothing was left standing still
        branch = start(kept)
        counted = sh(branch, "wc -l <ticks; sleep 0.3; wc -l <ticks").split()
        assert counted[0] == counted[1]  # the program is no part of it
    parent.stop()
    with parent.snapshot() as kept:  # also of one that is stopped
        assert int(sh(start(kept), "wc -l <ticks")) > count
    parent.close()
    with pytest.raises(SandboxLost):
        parent.snapshot()


def test_more_than_the_disk_allows_is_not_copied(start: Start) -> None:
    parent = start(disk_mb=8)
    sh(parent, "for i in 1 2 3; do truncate -s 5000000 hole-$i; done")
    with pytest.raises(OversizedArchive):
        parent.snapshot()
    sh(parent, "rm hole-1 hole-2")
    with parent.snapshot() as kept:
        assert sh(start(kept, disk_mb=8), "stat -c %s hole-3").strip() == "5000000"


def test_many_branches_begin_at_once_while_the_sandbox_writes(start: Start) -> None:
    parent = start()
    sh(parent, "seq 1000 >numbers")
    type_in(parent, "(while :; do seq 1000 >ticks; done) >/dev/null 2>&1 &")
    with parent.snapshot() as kept, concurrent.futures.ThreadPoolExecutor(6) as pool:
        again = pool.submit(parent.snapshot)
        said = list(pool.map(lambda _: sh(start(kept), "tail -1 numbers; echo own >numbers"), range(6)))
        again.result().close()
    assert said == ["1000\n"] * 6
    assert sh(parent, "tail -1 numbers") == "1000\n"


def test_a_killed_owners_snapshots_are_reaped(any_runtime: Runtime) -> None:
    name = f"contract-{uuid.uuid4().hex[:12]}"
    program = (
        "import sys\n"
        "from terminal_gym.sandbox.base import SandboxSpec, open_runtime\n"
        "from terminal_gym.trusted_runtime.orders import ShellOrders\n"
        "runtime = open_runtime(sys.argv[1])\n"
        "sandbox = runtime.start(SandboxSpec(sys.argv[2], sys.argv[3]))\n"
        f"sandbox.boot(ShellOrders({NONCE!r}))\n"
        "first = sandbox.snapshot()\n"
        "branch = first.start(SandboxSpec(sys.argv[2], sys.argv[3] + '-branch'))\n"
        "second = branch.snapshot()\n"
        "print('kept', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, any_runtime.name, IMAGE, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONWARNINGS": "default"},
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"kept\n"
        assert not [left for left in any_runtime.reap() if name in left]
        assert len(kept_of(any_runtime, name)) == 2
        owner.send_signal(signal.SIGKILL)
    any_runtime.reap()
    assert kept_of(any_runtime, name) == []


def kept_of(runtime: Runtime, name: str) -> list[str]:
    """Return what a runtime keeps of snapshots of sandboxes whose name begins so."""
    engine = getattr(runtime, "engine", None)
    if engine is None:
        return [str(path) for path in runtime._run.glob(f"snapshot-{name}*")]  # type: ignore[attr-defined]
    images = engine.client.images(filters={"label": "terminal-gym.snapshot"}, all=True)
    return [str(image["Id"]) for image in images if image["Labels"]["terminal-gym.snapshot"].startswith(name)]
