"""No sandbox survives training, however it ends: an error, a signal that unwinds, or one that does not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.waiting import wait_until

from terminal_gym.errors import SandboxError
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.tasks.catalogue import read_folder

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"
TRAINING = """
import signal, sys, threading
from pathlib import Path
from transformers import AutoTokenizer
from terminal_gym.sandbox.base import open_runtime
from terminal_gym.tasks.catalogue import read_folder
from training.rollout_bridge import Live, Rollouts

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # as `tgym` does

def generate(prompts):
    print("decoding", flush=True)
    threading.Event().wait(300)

live = Live(episodes=2, max_steps=3, completion_tokens=300, patience_s=30.0)
made = Rollouts({"hello": read_folder(Path(sys.argv[1]))}, open_runtime("namespace"),
                AutoTokenizer.from_pretrained(sys.argv[2]), template="chatml", context_tokens=1024, live=live)
made.play(["hello"] * 2, generate)
"""


@pytest.fixture(scope="module")
def image() -> Iterator[None]:
    runtime = open_runtime("namespace")
    try:
        runtime.check()
        runtime.build(read_folder(HELLO).image)
        yield
    except SandboxError as error:
        pytest.skip(f"namespace: {error}")
    finally:
        runtime.close()


def below(pid: int) -> set[int]:
    """Every process below `pid`."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found |= {child} | below(child)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_training_leaves_no_sandbox(image: None, tiny: Path, number: signal.Signals) -> None:
    training = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(HELLO), str(tiny)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert training.stdout is not None
        assert training.stdout.readline() == "decoding\n"
        sandboxes = below(training.pid)
        assert len(sandboxes) >= 2
        training.send_signal(number)
        training.wait(timeout=60)
        assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in sandboxes), deadline_s=30)
    finally:
        training.kill()
        training.wait()
        training.stdout.close()  # type: ignore[union-attr]
    with_reaper = open_runtime("namespace")
    with_reaper.reap()
    with_reaper.close()
