"""A judge that falls silent: the machine's fault is no verdict, the agent's a 0, and one is not made of the other."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import HELLO

from terminal_gym.env import TerminalEnv
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.sandbox.container import Container
from terminal_gym.sandbox.namespace import Machine
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.task import Mode, Task

SOLVE = "printf 'hello, world\\n500500\\n' > /app/greeting.txt\n"
Blow = Callable[[Any], None]


def kill_host_side(sandbox: Machine) -> None:
    """The process on this machine that started PID 1 and waits for it."""
    assert sandbox._line is not None
    sandbox._line._process.kill()


def kill_init(sandbox: Any) -> None:
    pid = sandbox._line.init_pid()
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def drop_terminal(sandbox: Container) -> None:
    """As a proxy between us and the Engine may: the connection ends, the container goes on."""
    assert sandbox._line is not None
    sandbox._line._raw.shutdown(2)


def kill_container(sandbox: Container) -> None:
    sandbox._engine.client.kill(sandbox.id)


WHOLE, DOCKER = pytest.mark.whole, pytest.mark.docker
CASES = [
    pytest.param("namespace", kill_host_side, "artifacts", id="namespace-host-side"),
    pytest.param("namespace", kill_host_side, "restart", id="namespace-host-side-restart", marks=WHOLE),
    pytest.param("namespace", kill_init, "artifacts", id="namespace-init", marks=WHOLE),
    pytest.param("docker:runc", drop_terminal, "artifacts", id="docker-terminal", marks=DOCKER),
    pytest.param("docker", drop_terminal, "restart", id="docker-terminal-restart", marks=[DOCKER, WHOLE]),
    pytest.param("docker:runc", kill_container, "artifacts", id="docker-killed", marks=[DOCKER, WHOLE]),
    pytest.param("docker", kill_init, "artifacts", id="docker-beside-init", marks=DOCKER),
]
# Files in memory belong to no process: once they fill the limit, the kernel takes the largest process, which by then is
# the judge: pytest has made room for two small programs, which no longer offer themselves first.
FILLS = """\
    import os
    fills = "cat /dev/zero > /dev/shm/full & cat /dev/zero > /tmp/full & wait; sleep 600"
    os.execvp("sh", ["sh", "-c", f"echo 0 > /proc/self/oom_score_adj; {fills}"])
"""


@pytest.fixture
def runtime_of() -> Iterator[Callable[[str], Runtime]]:
    with ExitStack() as opened:

        def make(name: str) -> Runtime:
            runtime = opened.enter_context(closing(open_runtime(name)))
            runtime.build(find_task(HELLO).image)
            return runtime

        yield make


@pytest.mark.parametrize(("name", "blow", "mode"), CASES)
def test_a_judge_that_is_cut_off_is_no_verdict(
    runtime_of: Callable[[str], Runtime], tmp_path: Path, name: str, blow: Blow, mode: Mode
) -> None:
    runtime = runtime_of(name)
    task = changed(tmp_path, "    time.sleep(600)\n", mode=mode)
    with TerminalEnv(task, runtime=runtime, step_s=20.0) as env:
        env.reset()
        env.step(SOLVE)
        with struck(runtime, blow) as strokes:
            _, reward, _, truncated, info = env.step("<submit>")
    # One that is struck while it starts, on a slow machine, is made again before it judges: that is no third time.
    assert 3 <= len(strokes) <= 6, "it is judged again, twice"
    assert (info["status"], truncated) == ("broken", True), info
    assert reward != reward


@pytest.mark.parametrize(
    "name", ["namespace", pytest.param("docker", marks=DOCKER), pytest.param("docker:runc", marks=DOCKER)]
)
def test_a_program_that_fills_the_judges_memory_earns_nothing(
    runtime_of: Callable[[str], Runtime], tmp_path: Path, name: str
) -> None:
    """Nor does it turn the failure into one of the machine."""
    runtime = runtime_of(name)
    task = changed(tmp_path, FILLS, mode="artifacts", memory_mb=64)
    with TerminalEnv(task, runtime=runtime, step_s=20.0) as env:
        env.reset()
        env.step(SOLVE)
        _, reward, _, _, info = env.step("<submit>")
    assert (info["status"], reward) == ("failed", 0.0), info


def changed(root: Path, before: str, *, mode: Mode, memory_mb: int = 512) -> Task:
    """The tiny task with something that its first test does first, once it has begun."""
    folder = Path(shutil.copytree(HELLO, root / "hello"))
    tests = folder / "tests/test_outputs.py"
    tests.write_text("import time\n" + tests.read_text().replace("    assert", before + "    assert", 1))
    task = folder / "task.yaml"
    lines = (
        task.read_text()
        .replace("mode: artifacts", f"mode: {mode}")
        .replace("memory_mb: 512", f"memory_mb: {memory_mb}")
    )
    lines = lines.replace("disk_mb: 64", "disk_mb: 2048")
    lines = lines.replace("max_test_timeout_sec: 60", "max_test_timeout_sec: 30")
    task.write_text(lines if mode == "artifacts" else lines.replace("  artifacts: [/app/greeting.txt]\n", ""))
    return find_task(folder)


@contextmanager
def struck(runtime: Runtime, blow: Blow) -> Iterator[dict[int, object]]:
    """Strike each judge a second after it was first seen; yields those that were struck.

    All are kept, for the identity of one that is gone would be given to another.
    """
    stop, seen, done = threading.Event(), dict[int, tuple[float, object]](), dict[int, object]()

    def strike() -> None:
        while not stop.wait(0.05):
            for held in held_by(runtime):
                line = held._line
                if line is None or _keeps_shell(held):
                    continue
                since, _ = seen.setdefault(id(line), (time.monotonic(), line))
                if time.monotonic() - since > 1.0 and id(line) not in done:
                    done[id(line)] = line
                    blow(held)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        yield done
    finally:
        stop.set()
        striker.join()


def held_by(runtime: Any) -> list[Any]:
    """Every sandbox of a runtime, those beside its Engine too."""
    beside = getattr(runtime, "_judges", None)
    return [*runtime._held.values(), *(beside._machines._held.values() if beside else ())]


def _keeps_shell(held: Any) -> bool:
    return bool(held._keeps_shell if isinstance(held, Container) else held._line.keeps_shell)
