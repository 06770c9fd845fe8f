"""The engine with a real endpoint that misbehaves, and with a run folder on a disk that fills up."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.chat_server import ChatServer, Fault, Request, Said
from kit.fake_runtime import FakeRuntime, FileValidator
from kit.folders import task_folder

from terminal_gym.agents.agent import open_agent
from terminal_gym.agents.scripted import Scripted
from terminal_gym.errors import DiskFull
from terminal_gym.llm.endpoint import Endpoint
from terminal_gym.rollout.engine import Bounds, Engine
from terminal_gym.rollout.place import Here
from terminal_gym.rollout.plan import Retries, remaining
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.trajectory.record import Action
from terminal_gym.trajectory.store import Run, RunWriter

SOLVES = ["```bash\ntouch out.txt\n```", "```bash\n<submit>\n```"]
OVERFLOW = json.dumps({"error": {"message": "This model's maximum context length is 10 tokens."}}).encode()
FAULTS = {
    "429": Fault(429, b'{"error": {"message": "slow down"}}', {"Retry-After": "0.01"}),
    "500": Fault(500, b"oops"),
    "hang": Fault(how="hang"),
    "reset": Fault(how="reset"),
    "garbage": Fault(200, b"\xff\xfe<html>"),
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def _played(folder: Path, server: ChatServer, *, attempts: int = 3) -> Run:
    task = read_folder(task_folder(folder))
    tasks, runtime = {str(task.ref): task}, FakeRuntime()
    model = Endpoint("tiny", base_url=server.url, timeout_s=1.0, tries=2, first_pause_s=0.01)
    place = Here(
        runtime,
        tasks=tasks,
        make_agent=lambda seed: open_agent("bash", model=model),
        validator=FileValidator(),
    )
    with RunWriter(folder / "run", {}) as writer:
        engine = Engine(
            tasks=tasks, places=[place], writer=writer, agent="bash", retries=Retries(first_pause_s=0.01)
        )
        engine.run(remaining(tasks, attempts=attempts, done=set()))
    place.close()
    model.close()
    assert not runtime.held
    return Run(folder / "run")


def _solving(request: Request) -> Said:
    return Said(SOLVES[min(1, sum(one["role"] == "assistant" for one in request["messages"]))])


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_costs_no_attempt(name: str, tmp_path: Path) -> None:
    faults = iter([FAULTS[name]] * 4)
    with ChatServer(lambda request: next(faults, None) or _solving(request)) as server:
        run = _played(tmp_path, server)
        assert len(server.requests) >= 10
    assert Counter(row.status for row in run.rows) == {"passed": 3}


@pytest.mark.parametrize("name", ["500", "garbage"])
def test_a_fault_that_stays_is_no_reward(name: str, tmp_path: Path) -> None:
    with ChatServer([FAULTS[name]]) as server:
        run = _played(tmp_path, server, attempts=1)
    ((row,), (played,)) = run.rows, run
    assert (row.status, row.reward) == ("broken", None)
    assert row.reason.startswith("ProviderDown")
    assert len(played.failures) == 2


def test_a_context_that_overflows_ends_the_episode_and_what_was_done_is_judged(tmp_path: Path) -> None:
    def script(request: Request) -> Said | Fault:
        return Fault(400, OVERFLOW) if len(request["messages"]) > 1 else _solving(request)

    with ChatServer(script) as server:
        run = _played(tmp_path, server)
    assert Counter(row.status for row in run.rows) == {"passed": 3}
    assert all(row.limit.startswith("ContextFull") for row in run.rows)


# ── the disk ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tgym-small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_run_on_a_disk_that_fills_up_stops_and_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    task = read_folder(task_folder(tmp_path))
    tasks, runtime = {str(task.ref): task}, FakeRuntime()
    noise = Action(keys=(b"head -c 9000 /dev/urandom | base64; touch out.txt\n",))  # does not compress well

    def play() -> None:
        place = Here(
            runtime, tasks=tasks, make_agent=lambda seed: Scripted([noise]), validator=FileValidator()
        )
        try:
            with RunWriter(small_disk / "run", {}) as writer:
                engine = Engine(
                    tasks=tasks, places=[place], writer=writer, agent="scripted", bounds=Bounds(episodes=2)
                )
                engine.run(remaining(tasks, attempts=10, done=set(writer.standing)))
        finally:
            place.close()

    with pytest.raises(DiskFull):
        play()
    kept = len(Run(small_disk / "run"))
    assert 0 < kept < 10
    assert len(list(Run(small_disk / "run"))) == kept, "a record is broken"
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    play()
    run = Run(small_disk / "run")
    assert Counter(row.status for row in run.rows) == {"passed": 10}
    assert len(list(run)) == 10
    assert not runtime.held
