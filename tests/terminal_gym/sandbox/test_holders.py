"""Ready network namespaces: one sandbox at a time in each, and nothing of the last one in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from terminal_gym.errors import SandboxLost, StartFailed
from terminal_gym.sandbox.base import SandboxSpec
from terminal_gym.sandbox.container import Container, Docker
from terminal_gym.sandbox.holders import Holder, Holders
from terminal_gym.tasks.task import Limits
from terminal_gym.trusted_runtime.orders import ShellOrders

pytestmark = pytest.mark.docker
IMAGE = "tgym-test/base:1"
ORDERS = ShellOrders("c0ffee00c0ffee00")
TALK = """
import socket
server = socket.create_server(("127.0.0.1", 8000))
client = socket.create_connection(("127.0.0.1", 8000))
served, _ = server.accept()
served.close(); client.close()
"""


@pytest.fixture
def docker(docker_runtime: Docker) -> Iterator[Docker]:
    """An Engine of whose sandboxes the third and later find a namespace that is ready."""
    if os.geteuid() != 0 or not docker_runtime.engine.is_local:
        pytest.skip("namespaces are looked at as root, on this machine")
    with closing(Docker()) as runtime:
        assert runtime._holders is not None
        for _ in range(2):
            with started(runtime) as sandbox:
                assert mode(sandbox) == "none"
        settled(runtime._holders)
        yield runtime


def started(runtime: Docker, **limits: bool) -> Container:
    spec = SandboxSpec(IMAGE, f"held-{uuid.uuid4().hex[:12]}", Limits(network=limits.get("network", False)))
    sandbox = runtime.start(spec)
    assert isinstance(sandbox, Container)
    return sandbox


def settled(holders: Holders) -> None:
    """Wait until nothing is being made or removed."""
    for maker in list(holders._makers):
        maker.join()


def mode(sandbox: Container) -> str:
    return str(sandbox._engine.client.inspect_container(sandbox.id)["HostConfig"]["NetworkMode"])


def asked(sandbox: Container, *argv: str) -> str:
    ran = sandbox.run(list(argv), timeout_s=20)
    assert ran.exit_code == 0, ran
    return ran.stdout.decode()


def holder_of(sandbox: Container) -> Holder:
    assert sandbox._holder is not None
    assert mode(sandbox) == f"container:{sandbox._holder.id}"
    return sandbox._holder


def test_a_sandbox_in_a_ready_namespace_is_like_any_other(docker: Docker) -> None:
    with started(docker) as sandbox:
        sandbox.boot(ORDERS)
        first = holder_of(sandbox)
        assert asked(sandbox, "hostname") == "sandbox\n"
        assert asked(sandbox, "ls", "/sys/class/net") == "lo\n"
        assert "127.0.0.1\tlocalhost" in asked(sandbox, "cat", "/etc/hosts")
        # Whatever holds the namespace is none of its processes.
        assert "signal.pause" not in asked(sandbox, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    with started(docker) as sandbox:
        assert holder_of(sandbox) == first
    with started(docker, network=True) as sandbox:
        assert mode(sandbox) == "bridge"


def test_a_second_start_is_alike_with_and_without(docker: Docker) -> None:
    """Or a verdict in `restart` mode would depend on how many sandboxes this process has had before."""
    look = "cat /etc/hosts /etc/hostname /etc/resolv.conf | grep -v sandbox; stat -c '%a %u:%g' /etc/host*"
    seen = []
    with closing(Docker()) as fresh:
        for runtime, wanted in ((docker, "container:"), (fresh, "none")):
            with started(runtime) as sandbox:
                assert mode(sandbox).startswith(wanted)
                sandbox.boot(ORDERS)
                asked(sandbox, "sh", "-c", "echo 127.0.0.1 mine | tee -a /etc/hosts /etc/resolv.conf")
                assert "mine" in asked(sandbox, "cat", "/etc/hosts")
                sandbox.stop()
                sandbox.boot(ORDERS)
                seen.append(asked(sandbox, "sh", "-c", look))
    assert "localhost" in seen[0]
    assert seen[0] == seen[1]


def test_addresses_that_one_talked_to_are_not_remembered(docker: Docker) -> None:
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is missing")
    with started(docker) as sandbox:
        sandbox.boot(ORDERS)
        holder = holder_of(sandbox)
        asked(sandbox, "/tg/bin/python3", "-c", TALK.replace("127.0.0.1", "127.42.1.2"))
        told = ["nsenter", "--target", str(holder.pid), "--net", "ip", "tcp_metrics", "show"]
        assert subprocess.run(told, capture_output=True, text=True, check=True).stdout == ""


def test_two_sandboxes_are_never_in_one(docker: Docker) -> None:
    with started(docker) as one, started(docker) as other:
        assert mode(one).startswith("container:")
        assert mode(other) == "none"


def test_files_that_a_sandbox_changed_are_not_seen_by_the_next(docker: Docker) -> None:
    assert docker._holders is not None
    with started(docker) as sandbox:
        sandbox.boot(ORDERS)
        first = holder_of(sandbox)
        said = asked(
            sandbox,
            "sh",
            "-c",
            "touch -r /etc/hosts /tmp/then; sed 's/localhost/lacolhost/' /etc/hosts >/tmp/h;"
            "cat /tmp/h >/etc/hosts; touch -r /tmp/then /etc/hosts; cat /etc/hosts",
        )
        assert "lacolhost" in said
        sandbox.stop()
        sandbox.boot(ORDERS)
        # As an Engine has it with every container: what is judged in `restart` mode sees the names that were there.
        assert "lacolhost" not in asked(sandbox, "cat", "/etc/hosts")
        asked(sandbox, "sh", "-c", "cat /tmp/h >/etc/hosts")
    with started(docker) as sandbox:
        assert mode(sandbox) == "none"
        sandbox.boot(ORDERS)
        assert "lacolhost" not in asked(sandbox, "cat", "/etc/hosts")
    settled(docker._holders)
    assert not first.is_alive()
    with started(docker) as sandbox:
        sandbox.boot(ORDERS)
        assert holder_of(sandbox) != first
        assert "lacolhost" not in asked(sandbox, "cat", "/etc/hosts")


@pytest.mark.parametrize("change", ["chmod 0600 /etc/hosts", "chown 65534 /etc/hostname"])
def test_who_may_read_them_is_part_of_what_they_are(docker: Docker, change: str) -> None:
    with started(docker) as sandbox:
        sandbox.boot(ORDERS)
        holder_of(sandbox)
        asked(sandbox, *change.split())
    with started(docker) as sandbox:
        assert mode(sandbox) == "none"


def test_a_namespace_rests_while_a_connection_waits_out_its_time(docker: Docker) -> None:
    with started(docker) as sandbox:
        sandbox.boot(ORDERS)
        first = holder_of(sandbox)
        asked(sandbox, "/tg/bin/python3", "-c", TALK)
    with started(docker) as sandbox:
        assert sandbox._holder != first
    assert first.is_alive(), "it is only a minute"


def test_a_namespace_that_is_taken_away_is_a_loss_and_nobodys_fault(docker: Docker) -> None:
    with started(docker) as sandbox:
        sandbox.boot(ORDERS)
        holder = holder_of(sandbox)
        docker.engine.client.kill(holder.id)
        sandbox.stop()
        with pytest.raises(SandboxLost, match=r"network of .* was taken away"):
            sandbox.boot(ORDERS)
    with started(docker) as sandbox:
        assert mode(sandbox) == "none"
        sandbox.boot(ORDERS)


def test_a_fork_leaves_them_to_its_parent(docker: Docker) -> None:
    assert docker._holders is not None
    docker._holders._process -= 1  # as in a child
    with started(docker) as sandbox:
        assert mode(sandbox) == "none"


def test_they_go_with_their_runtime(docker: Docker) -> None:
    held = started(docker)
    holder = holder_of(held)
    with started(docker):
        pass
    docker.close()
    until = time.monotonic() + 5
    while holder.is_alive() and time.monotonic() < until:
        time.sleep(0.05)
    left = docker.engine.client.containers(all=True, filters={"name": "tgym-holder-"})
    mine = {name for one in left for name in one["Names"] if one["Id"] == holder.id}
    assert not mine
    assert docker._holders is not None
    assert docker._holders._count == 0


def test_one_whose_making_got_no_answer_goes_in_the_end(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Docker()) as runtime:
        assert runtime._holders is not None
        made = runtime._holders._created

        def unanswered() -> str:
            made()
            raise StartFailed("the connection was reset")

        monkeypatch.setattr(runtime._holders, "_created", unanswered)
        for _ in range(2):
            with started(runtime):
                pass
        settled(runtime._holders)
        prefix = runtime._holders._prefix
        assert docker.engine.client.containers(all=True, filters={"name": prefix})
    assert not docker.engine.client.containers(all=True, filters={"name": prefix})


def test_an_engine_that_holds_none_is_asked_three_times(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Docker()) as runtime:
        asked_for: list[None] = []

        def refused() -> str:
            asked_for.append(None)
            raise StartFailed("no more containers than sandboxes here")

        assert runtime._holders is not None
        monkeypatch.setattr(runtime._holders, "_created", refused)
        for _ in range(6):
            with started(runtime) as sandbox:
                assert mode(sandbox) == "none"
            settled(runtime._holders)
        assert (len(asked_for), runtime._holders._count) == (3, 0)
