"""One task through the command line, as a person or a script would: every ending, and a person at the terminal."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

from terminal_gym.sandbox.base import Runtime
from terminal_gym.sandbox.container import Docker
from terminal_gym.sandbox.reaper import LABEL

TGYM = str(Path(sys.executable).with_name("tgym"))
HELLO = str(Path(__file__).parents[1] / "kit/tasks/hello")
KEYS = {"task", "agent", "runtime", "image_digest", "status", "reward", "checks", "steps", "seconds"}


def run(*words: str, runtime: str = "docker") -> tuple[int, dict[str, object]]:
    argv = [TGYM, "run", HELLO, "--runtime", runtime, "--json", *words]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=240)
    (line,) = ran.stdout.splitlines() or [ran.stderr]
    return ran.returncode, json.loads(line)


@pytest.mark.parametrize(
    ("agent", "code", "status", "reward", "outcomes"),
    [
        ("oracle", 0, "passed", 1.0, ["passed", "passed"]),
        ("nop", 1, "failed", 0.0, ["failed", "failed"]),
        ("partial", 1, "failed", 0.0, ["passed", "failed"]),
    ],
)
def test_each_agent_has_its_ending(
    any_runtime: Runtime, agent: str, code: int, status: str, reward: float, outcomes: list[str]
) -> None:
    exit_code, found = run("--agent", agent, runtime=any_runtime.name)
    assert found["runtime"] == any_runtime.name
    assert (exit_code, found["status"], found["reward"], found["agent"]) == (code, status, reward, agent)
    assert found.keys() >= KEYS
    assert [check["outcome"] for check in found["checks"]] == outcomes  # type: ignore[attr-defined]
    assert set(found["seconds"]) == {"reset", "agent", "verify", "total"}  # type: ignore[call-overload]


@pytest.mark.docker
def test_a_script_is_played_and_recorded(tmp_path: Path) -> None:
    script, cast = tmp_path / "s.yaml", tmp_path / "h.cast"
    script.write_text("- \"printf 'hello, world\\\\n500500\\\\n' > greeting.txt\\n\"\n- {submit: true}\n")
    code, found = run("--agent", "scripted", "--script", str(script), "--cast", str(cast), "--seed", "7")
    assert (code, found["status"], found["steps"], found["seed"]) == (0, "passed", 2, 7)
    header, *events = map(json.loads, cast.read_text("utf-8").splitlines())
    assert header["version"] == 2
    assert any("greeting.txt" in data for _, kind, data in events if kind == "i")


@pytest.mark.docker
def test_an_image_that_nobody_has_is_broken(tmp_path: Path) -> None:
    folder = tmp_path / "hello"
    (folder / "tests").mkdir(parents=True)
    for name in ("task.yaml", "tests/test_outputs.py"):
        (folder / name).write_bytes((Path(HELLO) / name).read_bytes())
    (folder / "Dockerfile").write_text("FROM tgym-test/no-such-image:never\n")
    ran = subprocess.run(
        [TGYM, "run", str(folder), "--agent", "nop", "--runtime", "docker", "--json"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["status"], found["reward"]) == (3, "broken", None)
    assert "tgym-test/no-such-image" in ran.stderr


def containers_of(pid: int, runtime: Docker) -> list[str]:
    """States of the containers that process `pid` owns."""
    found = runtime.engine.client.containers(all=True, filters={"label": LABEL})
    return [entry["State"] for entry in found if f":{pid}:" in entry["Labels"][LABEL]]


@pytest.mark.docker
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_command_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "s.yaml"
    script.write_text('- "sleep 100\\n"\n')
    argv = [TGYM, "run", HELLO, "--runtime", "docker", "--agent", "scripted", "--script", str(script)]
    until = time.monotonic() + 60
    with (
        contextlib.closing(Docker()) as runtime,
        subprocess.Popen(argv, stderr=subprocess.DEVNULL) as command,
    ):
        while containers_of(command.pid, runtime) != [
            "running"
        ]:  # a create without its reply is the reaper's
            assert command.poll() is None
            assert time.monotonic() < until
        command.send_signal(number)
        assert command.wait(timeout=60) == 128 + number
        assert not containers_of(command.pid, runtime)


@pytest.mark.docker
def test_a_person_plays_resizes_interrupts_and_leaves() -> None:
    person = pexpect.spawn(TGYM, ["play", HELLO, "--runtime", "docker"], dimensions=(30, 100), timeout=60)
    try:
        person.expect(rb"app# ")
        person.send("stty size\r")
        person.expect(rb"30 100")
        person.setwinsize(25, 90)
        person.send("sleep 30\r\x03stty size\r")
        person.expect(rb"25 90")
        person.send("printf 'hello, world\\n500500\\n' > greeting.txt; cat greeting.txt\r")
        person.expect(rb"hello, world\r\n500500\r\n")
        person.send("\x1d")
        person.expect(pexpect.EOF)
        assert b"passed" in person.before
    finally:
        person.close()
    assert person.exitstatus == 0
