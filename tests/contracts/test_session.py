"""What a session promises, on every shell and by every way of knowing that input is wanted.

Ways: `proc` sees the host's /proc, `hint` has PID 1's word, `marks` has the shell's marks and silence only.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kit.local_wire import LocalWire

from terminal_gym.sandbox.base import Console, Runtime, SandboxSpec
from terminal_gym.terminal.session import Session
from terminal_gym.terminal.settle import Patience
from terminal_gym.trusted_runtime.orders import ShellOrders

NONCE = "5e55104a5e55104a"
SHELLS = ("bash", "zsh", "dash", "ash")
WAYS: dict[str, dict[str, bool]] = {
    "proc": {},
    "hint": {"sees_proc": False, "hints": True},
    "marks": {"sees_proc": False},
}
WAITS = {"proc": "reader", "hint": "hint", "marks": "silence"}


@dataclass(frozen=True)
class Case:
    """Keys in turn; after each, whether the shell's prompt or some other reader is awaited, and what is shown."""

    name: str
    turns: list[tuple[str, str, str]]  # keys, "prompt" | "waits" | "either", pattern in the text
    shells: tuple[str, ...] = SHELLS
    needs: tuple[str, ...] = field(default=())


CASES = [
    Case("echo", [("echo hi\n", "prompt", r"\nhi\n")]),
    Case("empty-line", [("\n", "prompt", "")]),
    Case("slow", [("sleep 0.3; echo do''ne\n", "prompt", r"done")]),
    Case("pipeline", [("(sleep .2; echo on''e; sleep .2; echo tw''o) | cat | sort\n", "prompt", "one\ntwo")]),
    Case("two-lines", [("sleep 0.2\necho sec''ond\n", "prompt", "second")]),
    Case("three-lines", [("echo a\nsleep 0.2\nsleep 0.1; echo thi''rd\n", "prompt", "third")]),
    Case("loop", [("for i in 1 2; do\nsleep .1\necho i$i\ndone\n", "prompt", "i1\ni2")]),
    Case("here-document", [("cat <<E\nal$((1))pha\nE\n", "prompt", "al1pha")]),
    Case("open-here-document", [("cat <<E\n", "waits", "> ?"), ("be$((2))ta\nE\n", "prompt", "be2ta")]),
    Case(
        "python",
        [
            ("python3 -q\n", "waits", ">>> $"),
            ("import time; time.sleep(.3); print(6 * 7)\n", "waits", "42\n>>> $"),
            ("for i in 'ab':\n", "waits", r"\.\.\. $"),
            ("    print(i * 3)\n\n", "waits", "aaa\nbbb\n>>> $"),
            ("exit()\n", "prompt", ""),
        ],
    ),
    Case("read", [("printf 'name? '; read x\n", "waits", r"name\? $"), ("me\n", "prompt", "")]),
    Case("half-a-line", [("cat >/dev/null\n", "waits", ""), ("abc", "waits", "abc"), ("\n\4", "prompt", "")]),
    Case(
        "password",
        [
            ("python3 -c 'import getpass; print(len(getpass.getpass()) * 7)'\n", "waits", "Password: $"),
            ("secret\n", "prompt", "42"),
        ],
    ),
    Case("read-s", [("read -s -p 'key: ' x\n", "waits", "key: $"), ("k\n", "prompt", "")], shells=("bash",)),
    Case(
        "less",
        [("seq 500 | less\n", "waits", ":"), (" ", "waits", ":"), ("q", "prompt", "")],
        needs=("less",),
    ),
    Case("more", [("seq 500 | more\n", "waits", "More"), ("q", "prompt", "")], needs=("more",)),
    Case(
        "vi",
        [
            ("vi -u NONE poem\n", "waits", ""),
            ("ihello", "waits", "hello"),
            ("\x1b", "waits", ""),
            (":wq\n", "prompt", "written"),
            ("cat poem\n", "prompt", r"\nhello\n"),
        ],
        needs=("vi",),
    ),
    Case(
        "nano",
        [("nano x\n", "waits", "x"), ("hi\x18", "waits", "Save"), ("n", "prompt", "")],
        needs=("nano",),
    ),
    Case("top", [("top\n", "waits", "PID"), ("q", "prompt", "")], needs=("top",)),
    Case("htop", [("htop\n", "waits", "PID"), ("q", "prompt", "")], needs=("htop",)),
    Case(
        "background-printer",
        [
            ("(while :; do echo tick; sleep .03; done) &\n", "prompt", ""),
            ("echo hi; sleep .1; echo ho\n", "prompt", r"hi\n(tick\n)+ho\n"),
            ("kill $!\n", "prompt", ""),
        ],
    ),
    Case("background-job", [("sleep 0.2 &\n", "prompt", ""), ("wait; echo af''ter\n", "prompt", "after")]),
    Case(
        "nested-shell",
        [
            ("bash --norc\n", "waits", r"\$|#"),
            ("sleep .2; echo ins''ide\n", "waits", "inside"),
            ("exit\n", "prompt", "exit"),
        ],
    ),
    Case(
        "nested-terminal",
        [
            ("script -qc \"sleep .3; read -p 'pass: ' x\" /dev/null\n", "waits", "pass: $"),
            ("x\n", "prompt", ""),
        ],
        needs=("script",),
    ),
    Case(
        "prompt-rewritten",
        [("PS1='new> '\n", "prompt", "new> $"), ("sleep .2; echo he''y\n", "prompt", "hey\nnew> $")],
        shells=("bash", "zsh"),
    ),
    Case(
        "prompt-command-rewritten",
        [
            ("PROMPT_COMMAND='echo mi''ne'\n", "prompt", "mine"),
            ("sleep .2; echo he''y\n", "prompt", "hey\nmine"),
        ],
        shells=("bash",),
    ),
    Case(
        "prompt-lost",
        [("PS1='new> '\n", "waits", "new> $"), ("sleep .2; echo he''y\n", "waits", "hey\nnew> $")],
        shells=("dash", "ash"),
    ),
    Case(
        "suspended",
        [("cat\n", "waits", ""), ("\x1a", "prompt", ""), ("fg\n", "waits", ""), ("\4", "prompt", "")],
    ),
    Case("unicode", [("echo 漢''字 é\n", "prompt", "漢字 é")]),
    Case(
        "unset-and-errexit",
        [("set -u\n", "prompt", ""), ("echo ok\n", "prompt", "ok"), ("set +u\n", "prompt", "")],
    ),
    Case(
        "full-screen-left-on",
        [(r"printf '\033[?1049h'" "\n", "prompt", ""), ("echo st''ill\n", "prompt", "still")],
    ),
    Case("echo-off", [("stty -echo\n", "prompt", ""), ("echo bli''nd\n", "prompt", "blind")]),
    Case("not-a-shell", [("exec cat\n", "waits", ""), ("hello\n", "waits", "hello\nhello\n")]),
]
BRIEF = {"echo", "slow", "two-lines", "open-here-document", "read", "python", "less", "background-printer"}


def _marks(shell: str, way: str, case: Case) -> list[pytest.MarkDecorator]:
    """Silence takes its time: the fast slice tries it on one shell."""
    sampled = way == "proc" or (
        shell == "bash" and (way == "hint" or case.name in BRIEF - {"python", "less"})
    )
    return [] if sampled else [pytest.mark.slow]


MATRIX = [
    pytest.param(shell, way, case, id=f"{shell}-{way}-{case.name}", marks=_marks(shell, way, case))
    for shell in SHELLS
    for way in WAYS
    for case in CASES
    if shell in case.shells and (shell == "bash" or way == "proc" or case.name in BRIEF)
]


@pytest.fixture
def wires() -> Iterator[list[LocalWire]]:
    opened: list[LocalWire] = []
    yield opened
    for wire in opened:
        wire.close()


def open_session(wires: list[LocalWire], shell: str, way: str, home: Path) -> Session:
    if shutil.which({"ash": "busybox"}.get(shell, shell)) is None:
        pytest.skip(f"{shell} is not installed")
    (home / ".profile").write_text("PS1='$ '\n")
    wire = LocalWire(shell, home, nonce=NONCE, **WAYS[way])
    wires.append(wire)
    session = Session(wire, nonce=NONCE, patience=Patience(silence_s=1.0))
    assert session.open(10).fact == "prompt"
    return session


@pytest.mark.parametrize(("shell", "way", "case"), MATRIX)
def test_settles_when_input_is_wanted(
    shell: str, way: str, case: Case, wires: list[LocalWire], tmp_path: Path
) -> None:
    for program in case.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    session = open_session(wires, shell, way, tmp_path)
    for keys, awaited, shows in case.turns:
        session.send(keys.encode())
        settled = session.settle(deadline_s=8)
        text = session.text()
        assert settled.fact == ("prompt" if awaited == "prompt" else WAITS[way]), (keys, settled, text)
        assert re.search(shows, text) or re.search(shows, session.screen().text()), (keys, settled, text)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("way", WAYS)
def test_finds_its_sources(shell: str, way: str, wires: list[LocalWire], tmp_path: Path) -> None:
    session = open_session(wires, shell, way, tmp_path)
    assert session.sources == {"proc": ("reader",), "hint": ("hint",), "marks": ()}[way]


@pytest.mark.parametrize("shell", SHELLS)
def test_exit_codes_are_the_commands(shell: str, wires: list[LocalWire], tmp_path: Path) -> None:
    session = open_session(wires, shell, "proc", tmp_path)
    for command, code in ((b"true\n", 0), (b"false\n", 1), (b"(exit 42)\n", 42), (b"echo x | grep y\n", 1)):
        session.send(command)
        assert session.settle(deadline_s=5).exit_code == code


def test_exit_codes_survive_a_rewritten_prompt_command(wires: list[LocalWire], tmp_path: Path) -> None:
    session = open_session(wires, "bash", "proc", tmp_path)
    for command in (b"PROMPT_COMMAND='echo mine; (exit 3)'\n", b"(exit 42)\n"):
        session.send(command)
        settled = session.settle(deadline_s=5)
    assert settled.exit_code == 42


@pytest.mark.parametrize("shell", SHELLS)
def test_interrupting_brings_the_prompt_back(shell: str, wires: list[LocalWire], tmp_path: Path) -> None:
    session = open_session(wires, shell, "proc", tmp_path)
    session.send(b"sleep 30\n")
    assert session.settle(deadline_s=0.3).fact == "deadline"
    session.send(b"\x03echo in''tact\n")
    assert session.settle(deadline_s=5).fact == "prompt"
    assert "\nintact\n" in session.text()


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_is_left_for_children(shell: str, wires: list[LocalWire], tmp_path: Path) -> None:
    session = open_session(wires, shell, "proc", tmp_path)
    session.send(b"env; ls /proc/self/fd; echo E''ND\n")
    session.settle(deadline_s=5)
    text = session.text()
    assert "END" in text
    assert NONCE not in text
    assert "__tg" not in text
    assert "/guest/shell" not in text
    assert "\n9\n" not in text


@pytest.mark.parametrize("shell", SHELLS)
def test_the_end_of_the_shell_is_a_fact(shell: str, wires: list[LocalWire], tmp_path: Path) -> None:
    session = open_session(wires, shell, "proc", tmp_path)
    session.send(b"exit 7\n")
    assert session.settle(deadline_s=5).fact == "closed"
    assert session.is_closed
    assert wires[0].exit_code() == 7


@pytest.mark.parametrize("shell", SHELLS)
def test_forged_marks_change_nothing(shell: str, wires: list[LocalWire], tmp_path: Path) -> None:
    session = open_session(wires, shell, "proc", tmp_path)
    forged = r"\033]133;D;0;aid=0000000000000000\007\033]133;D;0\007\033]133;B\007"
    session.send(f"printf '{forged}'; sleep .3; (exit 5)\n".encode())
    settled = session.settle(deadline_s=5)
    assert (settled.fact, settled.exit_code) == ("prompt", 5)
    assert settled.seconds >= 0.2  # counted from the end of the sending


# ── on every runtime, through whatever lies between ─────────────────────────────────────────────


class Blind:
    """A console on a machine whose /proc we may not read: PID 1 must say when input is awaited."""

    def __init__(self, console: Console):
        self.stream, self.resize = console.stream, console.resize
        self.ask_for_hint, self.exit_code = console.ask_for_hint, console.exit_code

    def init_pid(self) -> int | None:
        return None


@pytest.mark.parametrize("way", ["proc", "hint"])
def test_settles_on_every_runtime(way: str, any_runtime: Runtime) -> None:
    spec = SandboxSpec(image="tgym-test/base:1", name=f"settle-{way}")
    with any_runtime.start(spec) as sandbox:
        console = sandbox.boot(ShellOrders(nonce=NONCE, shells=("bash",)))
        if way == "proc" and console.init_pid() is None:
            pytest.skip(f"{any_runtime.name} does not show its processes here")
        session = Session(Blind(console) if way == "hint" else console, nonce=NONCE)
        assert session.open(20).fact == "prompt"
        assert session.sources == (WAITS[way],)
        for keys, fact, shows in (
            ("echo hi\n", "prompt", r"\nhi\n"),
            ("sleep 0.3; (exit 5)\n", "prompt", ""),
            ("echo a\nsleep 0.2\necho la''st\n", "prompt", r"\nlast\n"),
            ("cat <<E\n", WAITS[way], "> $"),
            ("be$((2))ta\nE\n", "prompt", "be2ta"),
            ("read -s -p 'key: ' x; echo\n", WAITS[way], "key: $"),
            ("half", WAITS[way], "key: $|^$"),
            ("\n", "prompt", ""),
            ("echo part", WAITS[way], "part$"),
            ("ly\n", "prompt", r"\npartly\n"),
            ("(while :; do echo tick; sleep .03; done) &\n", "prompt", ""),
            ("echo hi; sleep .1; echo ho\n", "prompt", r"hi\n(tick\n)*ho\n"),
            ("kill $!\n", "prompt", ""),
            ("bash --norc\n", WAITS[way], r"\$ $|# $"),
            ("sleep .2; echo ins''ide\n", WAITS[way], "inside"),
            ("exit\n", "prompt", "exit"),
            ("PS1='new> '\n", "prompt", "new> $"),
            ("seq 200000\n", "prompt", r"\n199999\n200000\nnew> $"),
            ("x=1\n" * 500, "prompt", "new> $"),
        ):
            session.send(keys.encode())
            settled = session.settle(deadline_s=20)
            assert settled.fact == fact, (keys, settled, session.text()[-300:])
            assert re.search(shows, session.text()), (keys, settled, session.text()[-300:])
        session.resize(30, 100)
        session.send(b"stty size\n")
        session.settle(deadline_s=10)
        assert "30 100" in session.text()
        session.send(b"exit 7\n")
        assert session.settle(deadline_s=10).fact == "closed"
