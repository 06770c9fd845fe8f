"""Another OCI runtime (gVisor's runsc, say): asked for by name, held to it, recorded; and an engine that remaps users.

The shared Engine is not restarted for this: where root can, a second one is started with a data root of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from conftest import wait_until

from terminal_gym.errors import RuntimeUnavailable, UnknownName
from terminal_gym.sandbox.base import Runtime, SandboxSpec, open_runtime
from terminal_gym.sandbox.container import Docker
from terminal_gym.trusted_runtime.orders import ShellOrders

IMAGE = "tgym-test/base:1"
ORDERS = ShellOrders("c0ffee00c0ffee00")


@pytest.mark.parametrize("name", ["namespace:runsc", "docker:", "nothing:runsc"])
def test_only_engines_have_an_oci_runtime_to_choose(name: str) -> None:
    with pytest.raises(UnknownName, match="docker:runsc"):
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
    if os.geteuid() != 0 or not (shutil.which("dockerd") and shutil.which("runc")):
        pytest.skip("a second Engine needs root, dockerd and runc")
    with tempfile.TemporaryDirectory(prefix="tgym-engine-") as folder:
        Path(folder).chmod(0o755)  # the remapped root passes through it
        address = f"unix://{folder}/sock"
        line = [
            "dockerd",
            "--data-root",
            f"{folder}/data",
            "--exec-root",
            f"{folder}/exec",
            "--host",
            address,
        ]
        line += ["--pidfile", f"{folder}/pid", "--bridge=none", "--iptables=false", "--userns-remap=default"]
        line += ["--add-runtime", f"wrapped={shutil.which('runc')}"]
        with Path(folder, "log").open("wb") as log:
            daemon = subprocess.Popen(line, stdout=log, stderr=log)
        try:
            if not wait_until(lambda: _answers(address) or daemon.poll() is not None, deadline_s=60.0):
                pytest.skip("a second Engine does not come up here")
            if daemon.poll() is not None:
                said = Path(folder, "log").read_text(errors="replace")[-500:]
                pytest.skip(f"a second Engine does not start here: {said}")
            saved = docker_runtime.engine.client.get_image(IMAGE)  # type: ignore[attr-defined]
            with docker.APIClient(base_url=address) as client:
                client.load_image(b"".join(saved))
            yield address
        finally:
            daemon.terminate()
            daemon.wait(timeout=60)


def _answers(address: str) -> bool:
    if not Path(address.removeprefix("unix://")).exists():
        return False
    try:
        with docker.APIClient(base_url=address) as client:
            return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False


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
