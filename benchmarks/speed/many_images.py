"""What does an episode cost on Docker when the Engine holds 10, 100 or 1,000 distinct images?

Each image is the task's own with one layer of one file on top, so they are thin: what is asked is what their number
costs, not their bytes. An image is started for the first time where there are enough of them. They are removed
afterwards.
"""

from __future__ import annotations

import dataclasses
import io
import statistics
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any

import docker
from docker.errors import APIError

from benchmarks.speed.clock import milliseconds
from benchmarks.speed.peers import work
from benchmarks.speed.peers.compare import busy_s
from benchmarks.speed.subjects import TASK
from terminal_gym.env import TerminalEnv
from terminal_gym.rollout.engine import Bounds
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Task

_REPOSITORY = "tgym-bench/many"
Say = Callable[[str], None]


def measure(
    counts: Sequence[int], *, resets: int, at_once: int, steps: int, say: Say
) -> list[dict[str, Any]]:
    """Return one row for each number of images, ascending.

    Args:
        counts: How many distinct images are held.
        resets: Images of those, spread evenly, that are reset one at a time for the reset's median.
        at_once: As many further images, played as whole episodes at the same time.
        steps: In each of these.
        say: Told what is going on.
    """
    task = find_task(TASK)
    rows = []
    with closing(open_runtime("docker")) as runtime, closing(docker.APIClient()) as client:
        runtime.build(task.image)
        with _image_maker(client, task.image.name) as make:
            held = 0
            for count in sorted(counts):
                say(f"{count} images")
                began = time.perf_counter()
                for number in range(held, count):
                    make(number)
                made_s, held = time.perf_counter() - began, count
                names = _spread([f"{_REPOSITORY}:{n}" for n in range(count)], resets + at_once)
                row: dict[str, Any] = {"images": count, "made_s": made_s}
                row["reset_ms"] = [_reset(runtime, _on(task, name)) for name in names[:resets]]
                row["reset_ms_median"] = statistics.median(row["reset_ms"])
                rows.append(row | _episodes(runtime, [_on(task, name) for name in names[resets:]], steps))
    return rows


@contextmanager
def _image_maker(client: docker.APIClient, base: str) -> Iterator[Callable[[int], None]]:
    container = client.create_container(base, ["true"])["Id"]
    made: list[str] = []

    def make(number: int) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry, text = tarfile.TarInfo("number"), f"{number}\n".encode()
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
        client.put_archive(container, "/", packed.getvalue())
        client.commit(container, _REPOSITORY, str(number))
        made.append(f"{_REPOSITORY}:{number}")

    try:
        yield make
    finally:
        client.remove_container(container, force=True)
        for name in made:
            with suppress(APIError):  # one that is not there any more
                client.remove_image(name, force=True)


def _spread(names: Sequence[str], wanted: int) -> list[str]:
    """Return `wanted` of the names, from end to end; with fewer names some come twice."""
    return [names[int(at * len(names) / wanted)] for at in range(wanted)]


def _on(task: Task, image: str) -> Task:
    return dataclasses.replace(task, image=ImageRecipe(image))


def _reset(runtime: Runtime, task: Task) -> float:
    with closing(TerminalEnv(task, runtime=runtime)) as env:
        return milliseconds(env.reset)


def _episodes(runtime: Runtime, tasks: Sequence[Task], steps: int) -> dict[str, Any]:
    bounds = Bounds()
    starts, verdicts = threading.Semaphore(bounds.starts), threading.Semaphore(bounds.verifications)

    def episode(task: Task) -> bool:
        with closing(TerminalEnv(task, runtime=runtime, verdicts=verdicts)) as env:
            with starts:
                env.reset()
            for _ in range(steps):
                env.step(work.STEP + "\n")
            env.step(work.SOLUTION + "\n")
            env.step("<submit>")
            return env.verdict is not None and env.verdict.passed

    began, cpu = time.perf_counter(), busy_s()
    with ThreadPoolExecutor(len(tasks)) as pool:
        passed = sum(pool.map(episode, tasks))
    took, spent = time.perf_counter() - began, busy_s() - cpu
    return {
        "episodes": len(tasks),
        "passed": passed,
        "episodes_a_minute": 60 * passed / took,
        "cpu_s_an_episode": spent / passed if passed else None,
    }
