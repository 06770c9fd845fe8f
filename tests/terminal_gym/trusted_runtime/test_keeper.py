"""A shell kept by PID 1 on a bare machine: started as ordered, reaped, hinted at, ended with."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import pexpect
import pytest

from terminal_gym.trusted_runtime import orders as wire
from terminal_gym.trusted_runtime.guest import console

NONCE = "0123456789abcdef"
PROMPT = f"]133;B;aid={NONCE}\a".encode()


def boot(machine: Any, **more: Any) -> Any:
    """Return the console with a shell at its first prompt."""
    child = machine.boot(wire.ShellOrders(**({"nonce": NONCE, "shells": ("sh",)} | more)))
    child.expect_exact(wire.OK)
    child.expect_exact(PROMPT)
    return child


def said(child: Any, command: str) -> str:
    """Return what `command` prints before the next prompt."""
    child.send(f"{command}; echo 'TG''END'\n")
    child.expect(rb"TGEND\r\n")
    text = re.sub(r"\x1b][^\x07]*\x07", "", child.before.decode())
    child.expect_exact(PROMPT)
    return str(text.rpartition("TG''END'")[2]).strip()


def leave(child: Any, command: str = "exit 0") -> int:
    child.send(f"{command}\n")
    child.expect_exact(pexpect.EOF)
    child.wait()
    return int(child.exitstatus if child.exitstatus is not None else 128 + child.signalstatus)


def guest_pid(child: Any) -> int:
    """PID 1 of the machine as this host sees it."""
    return int(Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()[0])


def test_both_ends_spell_the_protocol_alike() -> None:
    assert (console.READY, console.OK, console.ERROR) == (wire.READY, wire.OK, wire.ERROR)


@pytest.mark.parametrize("shell", ["bash", "dash", "sh", "zsh", "busybox"])
def test_the_ordered_shell_runs(machine: Any, shell: str) -> None:
    if not Path(f"/usr/bin/{shell}").exists():
        pytest.skip(f"{shell} is not installed")
    child = boot(machine, shells=(shell,), env={"WORD": "heron"})
    assert "heron-2" in said(child, "echo $WORD-$((1+1))")
    assert leave(child, "exit 7") == 7


def test_environment_is_the_orders_and_a_login_s_defaults(machine: Any) -> None:
    child = boot(machine, env={"WORD": "heron", "TERM": "vt100"}, cwd="/made/for/it")
    lines = said(child, "tr '\\0' '\\n' </proc/$$/environ; pwd").splitlines()
    env = {line.strip() for line in lines}
    assert {"WORD=heron", "TERM=vt100", "HOME=/root", "USER=root", "SHELL=/usr/bin/sh", "/made/for/it"} <= env
    assert not any(line.startswith(("LC_ALL", "OPENSSL_CONF", "LD_")) or NONCE in line for line in env)


@pytest.mark.usefixtures("users")
def test_a_user_s_account_comes_from_the_image(machine: Any) -> None:
    (machine.root / "etc/passwd").write_text(
        "garbage\nroot:x:0:0::/root:/bin/sh\nann:x:1234:55:Ann:/app:/bin/sh\n"
    )
    (machine.root / "etc/group").write_text("\0\xff\nwheel:x:77:bob,ann\nstaff:x:88:\n")
    child = boot(machine, user="ann")
    assert "1234 55 77 /app ann" in said(child, "echo $(id -u) $(id -g) $(id -G | cut -d' ' -f2) $HOME $USER")
    assert "error out" in said(child, "echo error out >/dev/stderr")
    child = boot(machine, user="4321:staff")
    assert "4321 88 88" in said(child, "echo $(id -u) $(id -g) $(id -G)")


@pytest.mark.parametrize(
    ("more", "kind"), [({"shells": ("fish", "xonsh")}, "no_shell"), ({"user": "nobody-like-her"}, "no_user")]
)
def test_orders_that_cannot_be_carried_out_are_refused(machine: Any, more: dict[str, Any], kind: str) -> None:
    child = machine.boot(wire.ShellOrders(**({"nonce": NONCE, "shells": ("sh",)} | more)))
    child.expect_exact(wire.ERROR)
    child.expect_exact(b"\n")
    assert console.decode(child.before)["kind"] == kind
    child.expect_exact(pexpect.EOF)


def test_garbage_for_orders_is_refused(machine: Any) -> None:
    child = machine.boot(wire.ShellOrders(nonce=NONCE, kind="dance"))
    child.expect_exact(wire.ERROR)
    argv = machine.argv()
    child = pexpect.spawn(argv[0], argv[1:], timeout=30, echo=False)
    child.expect_exact(wire.READY)
    child.send("!?\n")
    child.expect_exact(wire.ERROR)
    child.close(force=True)


def test_job_control_and_keys_work(machine: Any) -> None:
    child = boot(machine, shells=("bash",))
    assert "-ixon" in said(child, "stty -a")
    child.send("cat\n")
    child.expect_exact(b"]133;C;")  # the terminal echoes again
    child.send("one\n")
    child.expect_exact(b"one\r\none\r\n")  # echoed, and printed: cat is in the foreground
    child.send("\x1a")
    child.expect_exact(b"]133;D;148;")
    child.expect_exact(PROMPT)
    child.send("fg\n")
    child.expect_exact(b"]133;C;")
    child.expect_exact(b"cat\r\n")
    child.send("two\n")
    child.expect_exact(b"two\r\ntwo\r\n")
    child.send("\x03")
    child.expect_exact(b"]133;D;130;")
    child.expect_exact(PROMPT)
    assert (
        leave(child, "kill -9 $$") == 128 + signal.SIGKILL - 1
    )  # 137 says that PID 1 was killed, from outside


def test_the_terminal_can_be_resized(machine: Any) -> None:
    child = boot(machine, shells=("bash",))
    child.setwinsize(31, 101)
    assert said(child, "stty size") == "31 101"
    assert said(child, "echo $LINES $COLUMNS") == "31 101"


def test_orphans_are_reaped(machine: Any) -> None:
    child = boot(machine)
    for _ in range(20):
        said(child, "(sh -c 'exit 3' &)")
    zombies = "cat /proc/[0-9]*/status 2>/dev/null | grep -q '^State:.Z'"
    assert said(child, f"while {zombies}; do :; done; echo none").endswith("none")


def test_only_the_host_ends_pid_1(machine: Any) -> None:
    child = boot(machine)
    said(child, "kill -TERM 1; kill -INT 1; kill -HUP 1; kill -USR1 1; kill -KILL 1")
    assert said(child, "echo alive").endswith("alive")
    pid, ended = guest_pid(child), 1
    while ended:  # a signal from inside that is still pending swallows ours: the kernel keeps one of a kind
        os.kill(pid, signal.SIGTERM)
        ended = child.expect_exact([pexpect.EOF, pexpect.TIMEOUT], timeout=1)
    child.wait()
    assert child.exitstatus == 128 + signal.SIGTERM


def test_pid_1_is_closed_to_the_shell(machine: Any) -> None:
    child = boot(machine)
    said(child, "sleep 0.2")  # the right to look is withdrawn while the shell starts
    got = said(
        child, "for w in environ mem maps fd/0; do head -c1 /proc/1/$w >/dev/null && echo 'RE''AD' $w; done"
    )
    assert "READ" not in got


def test_the_hint_says_that_input_is_awaited(machine: Any) -> None:
    child = boot(machine)
    said(child, ":")
    hint = rf"\x1b\]6973;{NONCE};waiting;(\d+\.\d+)\x07".encode()
    sleeps = set()
    for keys in ("", "", "sleep 0.3; read line\n"):
        child.send(keys)
        os.kill(guest_pid(child), signal.SIGUSR1)
        child.expect(hint)
        sleeps.add(child.match[1])
    assert len(sleeps) == 2  # asked twice about one sleep, then about the next
    child.send("word\n")
    assert said(child, "echo $line").endswith("word")


def test_a_machine_without_a_shell_says_so(machine: Any) -> None:
    machine.system = False
    child = machine.boot(wire.ShellOrders(nonce=NONCE))
    child.expect_exact(wire.ERROR)
