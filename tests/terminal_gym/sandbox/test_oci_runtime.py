"""Another OCI runtime (gVisor's runsc, say): asked for by name, held to it, recorded; and an engine that remaps users.

The shared Engine is not restarted for this: where root can, a second one is started with a data root of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from kit.own_daemon import OwnDaemon

from terminal_gym.errors import RuntimeUnavailable, UnknownName
from terminal_gym.sandbox.base import Runtime, SandboxSpec, open_runtime
from terminal_gym.sandbox.container import Docker
from terminal_gym.trusted_runtime.orders import ShellOrders

IMAGE = "tgym-test/base:1"
ORDERS = ShellOrders("c0ffee00c0ffee00")


@pytest.mark.parametrize("name", ["namespace:runsc", "docker:", "nothing:runsc"])
def test_only_engines_have_an_oci_runtime_to_choose(name: str) -> None:
    with pytest.raises(UnknownName, match="No runtime is named"):
        open_runtime(name)


@pytest.mark.docker
def test_an_engine_without_it_says_which_it_has() -> None:
    runtime = open_runtime("docker:no-such-runtime")
    assert runtime.name == "docker:no-such-runtime"
    with pytest.raises(
        RuntimeUnavailable, match=r"no OCI runtime 'no-such-runtime', only .*runc.*Register it"
    ):
        runtime.check()


@pytest.mark.docker
def test_the_default_by_its_own_name_starts_a_sandbox(docker_runtime: Runtime) -> None:
    runtime = open_runtime("docker:runc")
    runtime.check()
    with runtime.start(SandboxSpec(IMAGE, f"oci-{os.getpid()}")) as sandbox:
        sandbox.boot(ORDERS)
        found = runtime.engine.client.inspect_container(sandbox.id)  # type: ignore[attr-defined]
        assert found["HostConfig"]["Runtime"] == "runc"
    runtime.close()


@pytest.fixture(scope="module")
def second_engine(docker_runtime: Runtime) -> Iterator[str]:
    """An Engine of our own: users remapped, one more OCI runtime, the base image; yields its address."""
    if reason := OwnDaemon.why_not():
        pytest.skip(reason)
    with OwnDaemon("--userns-remap=default", "--add-runtime", f"wrapped={shutil.which('runc')}") as engine:
        if not engine.start():
            pytest.skip(f"a second Engine does not start here: {engine.log[-500:]}")
        saved = docker_runtime.engine.client.get_image(IMAGE)  # type: ignore[attr-defined]
        with docker.APIClient(base_url=engine.address) as client:
            client.load_image(b"".join(saved))
        yield engine.address


@pytest.mark.docker
def test_a_sandbox_with_users_remapped_and_another_oci_runtime(second_engine: str) -> None:
    runtime = Docker(second_engine, oci_runtime="wrapped")
    runtime.check()
    with runtime.start(SandboxSpec(IMAGE, f"remapped-{os.getpid()}")) as sandbox:
        sandbox.boot(ORDERS)
        found = runtime.engine.client.inspect_container(sandbox.id)
        assert found["HostConfig"]["Runtime"] == "wrapped"
        outside = Path(f"/proc/{found['State']['Pid']}/uid_map").read_text().split()
        assert outside[0] == "0"  # root inside …
        assert int(outside[1]) > 0  # … is nobody outside
        assert sandbox.run(["id", "-u"], timeout_s=20).stdout == b"0\n"
    runtime.close()
