"""The built-in catalogue, played by a scripted model behind HTTP, SIGKILLed again and again and gone on with.

The slice runs two tasks and two kills; `-m slow` the whole: sixteen tasks, four attempts each, ten kills.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from kit.chat_server import ChatServer
from kit.scripted_player import GIVES_UP, ScriptedPlayer

from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import find_task, installed
from terminal_gym.trajectory.store import Run

TGYM = Path(sys.executable).with_name("tgym")
KEY = "sk-live-0815-do-not-store"


@pytest.mark.docker
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("names", "attempts", "kills"),
    [
        pytest.param(["bird-census", "torn-letter"], 2, 2, id="slice"),
        pytest.param([], 4, 10, id="whole", marks=pytest.mark.whole),
    ],
)
def test_killed_and_resumed(
    docker_runtime: Runtime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    attempts: int,
    kills: int,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    refs = names or [ref for catalogue in installed() for ref in catalogue.rows]
    tasks = [find_task(ref) for ref in refs]
    for task in tasks:
        docker_runtime.build(task.image)
    manifest, folder = tmp_path / "manifest.jsonl", tmp_path / "run"
    manifest.write_text("".join(json.dumps({"task": ref}) + "\n" for ref in refs))
    planned = len(refs) * attempts
    with ChatServer(ScriptedPlayer(tasks)) as server:
        words = [
            "--agent",
            "terminus",
            "--model",
            "openai/scripted",
            "--seed",
            "1",
            "--attempts",
            str(attempts),
        ]
        settings = [f"base_url={server.url}", "max_tokens=4000", "context_tokens=200000"]
        begin = [manifest, *words, *(word for one in settings for word in ("--model-setting", one))]
        told, killed = _killed_and_resumed([*begin, "--out", folder], folder, kills=kills, planned=planned)
    run = Run(folder)
    print(f"killed {killed} times; {told}")
    assert sorted(run.standing) == sorted((str(task.ref), k) for task in tasks for k in range(attempts))
    assert len(run.rows) == planned, "an attempt was played twice"
    assert (told["planned"], told["finished"], told["broken"]) == (planned, planned, 0)
    assert killed == kills
    _as_it_was_said(run)
    _nothing_secret(folder)
    _loads(folder, tmp_path / "data", sum(row.status == "passed" for row in run.rows))


def _killed_and_resumed(
    begin: list[object], folder: Path, *, kills: int, planned: int
) -> tuple[dict[str, object], int]:
    """(what the last command told, how many were killed)"""
    chance, killed, kept = random.Random(11), 0, 0
    common = ["--concurrency", "4", "--runtime", "docker", "--json"]
    while True:
        words = begin if not (folder / "run.json").exists() else ["--resume", folder]
        argv = [str(word) for word in [TGYM, "rollout", *words, *common]]
        command = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if killed < kills:
            _wait_to_run(command, folder)
            more = chance.randint(0, (planned - 2) // kills)
            if _wait_to_go_on(command, folder, kept + more, planned, chance.uniform(0.0, 4.0)):
                command.kill()
                command.communicate()
                killed += 1
                assert len(Run(folder)) >= kept, "a finished attempt was lost"
                kept = len(Run(folder))
                continue
        out, err = command.communicate(timeout=3000)
        assert command.returncode == 0, err
        return json.loads(out), killed


def _wait_to_run(command: subprocess.Popen[str], folder: Path) -> None:
    while command.poll() is None:
        holder = (folder / "lock").read_text() if (folder / "lock").exists() else ""
        if f"process {command.pid} " in holder:
            return
        time.sleep(0.05)


def _wait_to_go_on(
    command: subprocess.Popen[str], folder: Path, finished: int, planned: int, later_s: float
) -> bool:
    """Wait until so many attempts are finished and `later_s` more, or only one is left; False if the command ended."""
    moment = None
    while command.poll() is None:
        now = len(Run(folder)) if (folder / "run.json").exists() else 0
        if now >= finished and moment is None:
            moment = time.monotonic() + later_s
        if now >= planned - 1 or (moment is not None and time.monotonic() >= moment):
            return True
        time.sleep(0.02)
    return False


def _as_it_was_said(run: Run) -> None:
    """Those passed that the model meant to solve, and no others."""
    meant: Counter[tuple[bool, str]] = Counter()
    for one in run:
        gave_up = GIVES_UP in one.turns[0].reply.content
        meant[gave_up, one.outcome.status] += 1
    assert meant[True, "passed"] == 0
    assert meant[False, "failed"] == 0, meant
    assert meant[True, "failed"]
    assert meant[False, "passed"]


def _nothing_secret(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not any(KEY in str(one) for one in Run(folder))


def _loads(folder: Path, out: Path, passed: int) -> None:
    import datasets

    done = subprocess.run([TGYM, "export", folder, "--out", out], capture_output=True, text=True, check=True)
    assert done.stdout
    loaded = datasets.load_dataset("parquet", data_files=str(out / "*.parquet"), split="train")
    assert len({row["id"] for row in loaded} if "id" in loaded.column_names else loaded) == passed
