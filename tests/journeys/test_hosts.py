"""Rollouts on Engines that die: one of several, and the only one, which comes back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kit.own_daemon import OwnDaemon
from kit.relay import Relay

from terminal_gym.errors import SandboxError
from terminal_gym.rollout.engine import Bounds
from terminal_gym.rollout.job import Job, open_rollout
from terminal_gym.rollout.plan import Attempt, Retries
from terminal_gym.sandbox.container import Docker
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.trajectory.store import Row, Run

pytestmark = [
    pytest.mark.docker,
    # The docker package leaves a socket to the collector when it cannot connect
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
HELLO = str(Path(__file__).parents[1] / "kit/tasks/hello")


class After:
    """Calls `then` once so many attempts are on record."""

    def __init__(self, count: int, then: Callable[[], None]):
        self._left, self._then, self._mutex = count, then, threading.Lock()

    def started(self, attempt: Attempt) -> None: ...

    def retried(self, attempt: Attempt, reason: str) -> None: ...

    def ended(self, row: Row) -> None:
        with self._mutex:
            self._left -= 1
            now = self._left == 0
        if now:
            self._then()


@pytest.fixture
def engines(docker_runtime: Docker) -> Iterator[tuple[Relay, Relay]]:
    """Two doors to one Engine: as two Engines are seen from here."""
    docker_runtime.build(find_task(HELLO).image)
    with Relay() as one, Relay() as two:
        yield one, two


def test_one_of_two_engines_dies_and_the_other_plays_on(engines: tuple[Relay, Relay], tmp_path: Path) -> None:
    one, two = engines
    logs: list[str] = []
    with closing(Docker(one.address)) as first, closing(Docker(two.address)) as second:
        job = Job.of([HELLO], agent="oracle", attempts=10, seed=0)
        bounds, where = Bounds(episodes=4), {"one": first, "two": second}
        dies = After(3, one.cut)
        # No retry is left over: whoever dies with the Engine must not be counted as having failed.
        with open_rollout(
            job,
            tmp_path / "run",
            where,
            bounds=bounds,
            watcher=dies,
            log=logs.append,
            retries=Retries(machine=0),
        ) as ready:
            ready.run()
        one.mend()
    run = Run(tmp_path / "run")
    assert Counter(row.status for row in run.rows) == {"passed": 10}
    played = list(run)
    assert {one.versions["place"] for one in played} == {"one", "two"}
    assert any(one.failures for one in played), "nobody was playing there when it died"
    assert any(line.startswith("one is taken out: ") for line in logs)


@pytest.fixture
def own_daemon(docker_runtime: Docker) -> Iterator[OwnDaemon]:
    if reason := OwnDaemon.why_not():
        pytest.skip(reason)
    docker_runtime.build(find_task(HELLO).image)
    with OwnDaemon() as daemon:
        if not daemon.start():
            pytest.skip(f"a second dockerd does not start here: {daemon.log[-300:]}")
        with closing(Docker(daemon.address)) as runtime:
            try:
                saved = docker_runtime.engine.client.get_image(find_task(HELLO).image.name)
                list(runtime.engine.client.load_image(b"".join(saved)))
                runtime.image(find_task(HELLO).image.name)
            except SandboxError as error:
                pytest.skip(f"a second dockerd holds no images here: {error}")
        yield daemon


def test_the_daemon_is_restarted_and_the_run_goes_on(own_daemon: OwnDaemon, tmp_path: Path) -> None:
    restarted = threading.Thread(target=lambda: (own_daemon.stop(), own_daemon.start()))
    logs: list[str] = []
    with closing(Docker(own_daemon.address)) as runtime:
        job = Job.of([HELLO], agent="oracle", attempts=8, seed=0)
        with open_rollout(
            job,
            tmp_path / "run",
            runtime,
            bounds=Bounds(episodes=3),
            watcher=After(3, restarted.start),
            log=logs.append,
            retries=Retries(machine=1),
        ) as ready:
            ready.run()
        restarted.join()
    with closing(Docker(own_daemon.address)) as runtime:
        left = runtime.engine.client.containers(all=True)
    run = Run(tmp_path / "run")
    assert Counter(row.status for row in run.rows) == {"passed": 8}
    assert any(one.failures for one in run), "nobody was playing when it stopped"
    assert logs[-1].endswith("answers again")
    assert not left
