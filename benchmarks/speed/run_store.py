"""What does a run folder cost: storing a trajectory, opening and listing 50,733 of them, exporting them to Parquet?

Listing is what `tgym view` answers over HTTP, on a connection that is open already.

The floor of storing is one write of as many bytes, and a sync.
"""

from __future__ import annotations

import http.client
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.speed.clock import Measured, Turn, interleave, milliseconds
from terminal_gym.trajectory.codec import to_json
from terminal_gym.trajectory.dialogue import Message
from terminal_gym.trajectory.dialogue import Turn as ModelTurn
from terminal_gym.trajectory.record import Action, Frame, Observation, Outcome, Step, Trajectory
from terminal_gym.trajectory.store import Run, RunWriter

RELEASED = 50_733  # verified trajectories, as the paper counts them
TURNS = 31  # mean of the released ones
_WORDS = (
    *("make", "test", "error", "file", "line", "src", "build", "python"),
    *("install", "passed", "failed", "config", "value", "return"),
)


def made_up(number: int, *, ids: bool) -> Trajectory:
    """Return a trajectory of TURNS turns: some 2 kB of output a turn, and token ids if asked for."""
    chance = random.Random(number)
    steps = tuple(_step(chance, at, ids=ids) for at in range(TURNS))
    return Trajectory(
        task=f"TerminalTraj/made-up-{number}",
        task_hash="sha256:0",
        agent="terminus",
        runtime="docker",
        image_digest="sha256:0",
        attempt=0,
        seed=number,
        steps=steps,
        outcome=Outcome("passed" if number % 3 else "failed", float(bool(number % 3))),
        seconds={"total": 60.0},
        frames=tuple(
            Frame(0.5 * at, "out", step.observation.output.encode()) for at, step in enumerate(steps)
        ),
        model="openai/made-up",
    )


def _step(chance: random.Random, at: int, *, ids: bool) -> Step:
    output = "\n".join(" ".join(chance.choices(_WORDS, k=8)) for _ in range(40))
    said = '{"analysis": "' + " ".join(chance.choices(_WORDS, k=60)) + '", "plan": "", "commands": []}'
    turn = ModelTurn(
        messages=(Message("user", output),),
        reply=Message("assistant", said),
        fresh=at == 0,
        kept_ids=680 * at if ids else 0,
        prompt_ids=tuple(chance.choices(range(150_000), k=600)) if ids else (),
        output_ids=tuple(chance.choices(range(150_000), k=80)) if ids else (),
        logprobs=tuple(round(-chance.random(), 4) for _ in range(80)) if ids else (),
    )
    action = Action(keys=(b"make test\n",), text=said, turns=(turn,))
    return Step(action, Observation(output[-1500:], output, (39, 2), 0, "prompt"), at, at + 0.5)


def appending(repeats: int, *, ids: bool) -> dict[str, Measured]:
    """Return milliseconds to store one trajectory beside making it into bytes and beside the bare write."""
    with tempfile.TemporaryDirectory() as folder, RunWriter(Path(folder) / "run", {}) as run:
        number, size = iter(range(10**6)), run.append(made_up(10**7, ids=ids)).length
        fd = os.open(Path(folder) / "bare", os.O_CREAT | os.O_WRONLY)
        data = os.urandom(size)

        def write() -> None:
            os.write(fd, data)
            os.fsync(fd)

        def bare() -> float:
            return milliseconds(write)

        def store() -> float:
            played = made_up(next(number), ids=ids)
            return milliseconds(lambda: run.append(played))

        def encode() -> float:
            played = made_up(0, ids=ids)
            return milliseconds(lambda: to_json(played))

        contenders: dict[str, Turn] = {
            "floor": bare,
            f"store {size / 1e3:.0f} kB": store,
            "of that, to JSON": encode,
        }
        measured = interleave(contenders, repeats=repeats)
        os.close(fd)
        return measured


def fill(folder: Path, count: int, *, say: Callable[[str], None]) -> None:
    """Make a run of `count` trajectories, from 200 different ones."""
    some = [made_up(number, ids=False) for number in range(200)]
    with RunWriter(folder, {"tasks": {}, "attempts": 1}, sync=lambda fd: None) as run:
        for number in range(count):
            run.append(replace(some[number % 200], task=f"TerminalTraj/made-up-{number}"))
            if number % 10_000 == 9_999:
                say(f"made {number + 1}")


def opening(folder: Path, repeats: int) -> dict[str, Measured]:
    """Return milliseconds to open the run, to open it for writing (every byte is checked), to read one record."""
    run = Run(folder)
    at = iter(random.Random(0).choices(run.rows, k=10**5))

    def resume() -> float:
        return milliseconds(lambda: RunWriter(folder, run.settings).close())

    contenders: dict[str, Turn] = {
        "open": lambda: milliseconds(lambda: Run(folder)),
        "open to resume": resume,
        "read one": lambda: milliseconds(lambda: run.read(next(at))),
    }
    return interleave(contenders, repeats=repeats, warm_up=1)


def listing(folder: Path, repeats: int) -> dict[str, Measured]:
    """Return milliseconds until the viewer has answered: sums, a first page, and pages that are sorted and searched."""
    pages = {
        "first page": "/api/attempts?limit=100",
        "sorted by tokens": "/api/attempts?limit=100&sort=tokens&descending=true",
        "searched and sorted": "/api/attempts?limit=100&text=made-up-4&status=failed&sort=task",
        "tasks, hardest first": "/api/tasks?limit=10&sort=rate",
        "sums and charts": "/api/run",
    }
    with _viewing(folder) as line:

        def asked(path: str) -> float:
            return milliseconds(lambda: _get(line, path))

        contenders: dict[str, Turn] = {
            name: (lambda path=path: asked(path))  # type: ignore[misc]
            for name, path in pages.items()
        }
        return interleave(contenders, repeats=repeats, warm_up=1)


@contextmanager
def _viewing(folder: Path) -> Iterator[http.client.HTTPConnection]:
    import uvicorn

    from terminal_gym.viewer.app import viewer

    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = uvicorn.Config(viewer(folder), log_level="warning", lifespan="off", ws="none")
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            port = listener.getsockname()[1]
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as line:
                yield line
        finally:
            server.should_exit = True
            thread.join()


def _get(line: http.client.HTTPConnection, path: str) -> None:
    line.request("GET", path)
    answer = line.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")


def exporting(folder: Path) -> dict[str, Measured]:
    """Return seconds and peak MiB of an export to Parquet, in a process of its own."""
    program = (
        "import sys; from pathlib import Path\n"
        "from terminal_gym.export.write import export\nfrom terminal_gym.export.select import Gate\n"
        "from terminal_gym.trajectory.store import Run\n"
        "export(Run(sys.argv[1]), Path(sys.argv[2]), form='messages', gate=Gate(('passed', 'failed')))\n"
    )
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", program, folder, Path(out) / "data"], check=True)
        took = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        size = (Path(out) / "data/train.parquet").stat().st_size
    return {
        "export": Measured("export", "s", (took,)),
        "peak memory": Measured("peak memory", "MiB", (peak / 1024,)),
        "Parquet file": Measured("Parquet file", "MiB", (size / 2**20,)),
    }
