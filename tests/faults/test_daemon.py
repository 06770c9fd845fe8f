"""Rows J2–J7: every kind of call to the Engine fails in every way, once, amid a rollout.

Whatever happens to one episode, it ends in time, with the verdict it deserves or with none; the others go on; nothing
is left behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import wait_until
from docker.errors import APIError
from faults.conftest import HELLO, play
from kit.relay import FAULTS, Fault, Relay

from terminal_gym.env import TerminalEnv
from terminal_gym.sandbox.container import Docker
from terminal_gym.sandbox.reaper import LABEL, current_owner
from terminal_gym.tasks.catalogue import find_task

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
CALL_S = 10
CALLS = {
    "inspect image": r"GET /\S+/images/\S+/json",
    "create": r"POST /\S+/containers/create\?name",
    "attach": r"POST /\S+/containers/\w+/attach",
    "start": r"POST /\S+/containers/\w+/start",
    "resize": r"POST /\S+/containers/\w+/resize",
    "kill": r"POST /\S+/containers/\w+/kill",
    "wait": r"POST /\S+/containers/\w+/wait",
    "measure": r"GET /\S+/containers/json\?\S*size",
    "archive": r"GET /\S+/containers/\w+/archive",
    "delete": r"DELETE /\S+/containers/\w+",
}
SAMPLE = {("create", "lose reply"), ("attach", "hang"), ("archive", "drop"), ("measure", "refuse")}  # fmt: skip
WHOLE = [
    pytest.param(
        call, fault, id=f"{call}-{fault}", marks=() if (call, fault) in SAMPLE else pytest.mark.whole
    )
    for call in CALLS
    for fault in FAULTS
]


@pytest.fixture
def relay(docker_runtime: Docker) -> Iterator[Relay]:
    docker_runtime.build(find_task(HELLO).image)
    with Relay() as door:
        yield door


@pytest.fixture
def remote(relay: Relay) -> Iterator[Docker]:
    runtime = Docker(relay.address, call_s=CALL_S)
    runtime._volume = runtime._tree_source(runtime.image(find_task(HELLO).image.name))  # before any fault
    yield runtime
    relay.mend()
    runtime.close()
    with suppress(APIError):  # another worker's test may use it, and then removes it
        runtime.engine.client.remove_volume(runtime._volume)


def ours(docker: Docker) -> list[str]:
    found = docker.engine.client.containers(all=True, filters={"label": f"{LABEL}={current_owner()}"})
    return [entry["Names"][0] for entry in found]


@pytest.mark.parametrize(("call", "fault"), WHOLE)
def test_a_call_that_fails_costs_one_episode_at_most(
    docker_runtime: Docker, remote: Docker, relay: Relay, folder: Path, call: str, fault: Fault
) -> None:
    relay.fail_next(CALLS[call], fault)
    began = time.monotonic()
    played = play(remote, folder)
    played.must_be_honest(honest="passed")
    assert relay.met == 1, f"nothing asked for {call}"
    assert played.statuses["passed"] >= 1, played.reasons()  # the others go on
    assert time.monotonic() - began < 100.0  # under what would have the engine take the episode away
    remote.close()
    assert wait_until(lambda: not ours(docker_runtime), deadline_s=5.0), ours(docker_runtime)


@pytest.mark.parametrize(
    "fault", ["refuse", *(pytest.param(f, marks=pytest.mark.whole) for f in ("lose reply", "hang"))]
)
def test_a_fault_that_passes_is_made_up_for(remote: Docker, relay: Relay, folder: Path, fault: Fault) -> None:
    relay.fail_next(CALLS["archive"], fault, times=2)
    played = play(remote, folder, attempts=1, retries=4)
    assert played.statuses == {"passed": 1}, played.reasons()


@pytest.mark.parametrize("fault", ["refuse", pytest.param("gone", marks=pytest.mark.whole)])
def test_no_fault_pays_who_did_nothing(remote: Docker, relay: Relay, folder: Path, fault: Fault) -> None:
    relay.fail_next(CALLS["archive"], fault, times=20)
    play(remote, folder, agent="nop", attempts=2).must_be_honest(honest="failed")


@pytest.mark.whole
def test_a_daemon_that_dies_breaks_what_runs_and_the_rest_goes_on(
    docker_runtime: Docker, remote: Docker, relay: Relay, folder: Path
) -> None:
    """Its connections are cut at the first verdict, and it is back at once."""
    relay.fail_next(CALLS["archive"], "lose reply")
    requests = relay.requests

    def cut() -> None:
        assert wait_until(lambda: any("/archive" in line for line in requests), deadline_s=60.0)
        relay.cut()
        relay.mend()

    cutter = threading.Thread(target=cut)
    cutter.start()
    played = play(remote, folder, attempts=5)
    cutter.join()
    played.must_be_honest(honest="passed")
    assert played.statuses["passed"] >= 2, played.reasons()
    remote.close()
    assert wait_until(lambda: not ours(docker_runtime), deadline_s=5.0), ours(docker_runtime)


@pytest.mark.parametrize(
    ("end", "status"), [("", "broken"), ("kill -9 $$\n", "failed"), ("exit 0\n", "failed")]
)
def test_a_terminal_that_is_cut_off_is_no_end_of_the_shell(
    remote: Docker, relay: Relay, end: str, status: str
) -> None:
    with TerminalEnv(find_task(HELLO), runtime=remote, step_s=5.0) as env:
        env.reset()
        if not end:
            relay.cut()
            relay.mend()
        _, _, terminated, _, info = env.step(end or "echo half of the work\n")
    assert (info["status"], terminated) == (status, status == "failed"), info
