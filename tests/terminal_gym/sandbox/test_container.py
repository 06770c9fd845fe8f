"""The Engine's own: names, leases, faults of the daemon, builds. What every runtime promises is in contracts."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kit.relay import Relay

from terminal_gym.errors import BuildFailed, ImageMissing, RuntimeUnavailable, SandboxLost, StartFailed
from terminal_gym.sandbox.base import SandboxSpec
from terminal_gym.sandbox.container import Docker, Podman
from terminal_gym.sandbox.images import TRUSTED
from terminal_gym.sandbox.isolation import CAPABILITIES, SPEC_LABEL, container_name
from terminal_gym.sandbox.reaper import LABEL, current_owner
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.task import Limits
from terminal_gym.trusted_runtime.orders import ShellOrders

pytestmark = pytest.mark.docker
IMAGE = "tgym-test/base:1"
ORDERS = ShellOrders("c0ffee00c0ffee00")


@pytest.fixture
def docker(docker_runtime: Docker) -> Docker:
    return docker_runtime


@pytest.fixture
def spec() -> SandboxSpec:
    return SandboxSpec(IMAGE, f"own-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as door:
        yield door


@pytest.fixture
def remote(relay: Relay, docker: Docker) -> Iterator[Docker]:
    runtime = Docker(relay.address)
    yield runtime
    relay.mend()
    runtime.close()


def containers(docker: Docker, spec: SandboxSpec) -> list[str]:
    found = docker.engine.client.containers(all=True, filters={"label": f"terminal-gym.sandbox={spec.name}"})
    return [entry["Id"] for entry in found]


def foreign(docker: Docker, spec: SandboxSpec, lease: str) -> str:
    """A container under our name with another owner's lease."""
    made = docker.engine.client.create_container(
        IMAGE, ["true"], name=container_name(spec.name), labels={LABEL: lease}
    )
    return str(made["Id"])


# ── the container itself ────────────────────────────────────────────────────────────────────────


def test_what_is_asked_of_the_engine(docker: Docker) -> None:
    limits = Limits(cpus=999.0, memory_mb=256, pids=77, disk_mb=64)
    with docker.start(SandboxSpec(IMAGE, f"own-{uuid.uuid4().hex[:12]}", limits)) as sandbox:
        found = docker.engine.client.inspect_container(sandbox.id)
    host, config = found["HostConfig"], found["Config"]
    assert host["CapDrop"] == ["ALL"]
    assert {name.removeprefix("CAP_") for name in host["CapAdd"]} == set(CAPABILITIES)
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] == host["MemorySwap"] == 256 * 1024 * 1024
    assert host["PidsLimit"] == 77
    assert host["NanoCpus"] == docker.engine.cpus * 10**9
    assert host["NetworkMode"].startswith(("none", "container:"))  # see test_holders.py
    assert host["LogConfig"]["Type"] == "none"
    ulimits = {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]}
    assert (ulimits["core"], ulimits["fsize"]) == (0, 64 * 1024 * 1024)
    assert config["User"] == "0:0"
    assert config["WorkingDir"] == "/"
    assert config["Healthcheck"] == {"Test": ["NONE"]}
    assert "COLOUR=green" not in config["Env"]
    assert config["Labels"][LABEL] == str(current_owner())


def test_helper_as_another_user_and_with_a_hostile_environment(docker: Docker, spec: SandboxSpec) -> None:
    with docker.start(spec) as sandbox:
        sandbox.boot(ORDERS)
        assert sandbox.run(["id", "-u"], timeout_s=20, user="nobody").stdout == b"65534\n"
        ran = sandbox.run(["echo", "fine"], timeout_s=20, env={"LD_PRELOAD": "/no.so", "PATH": "/bin"})
        assert ran.stdout == b"fine\n"


def test_leaving_without_close_removes_everything(docker: Docker, spec: SandboxSpec) -> None:
    program = (
        "import sys\n"
        "from terminal_gym.sandbox.base import SandboxSpec, open_runtime\n"
        "from terminal_gym.trusted_runtime.orders import ShellOrders\n"
        "sandbox = open_runtime('docker').start(SandboxSpec(sys.argv[1], sys.argv[2]))\n"
        "sandbox.boot(ShellOrders('0' * 16))\n"
    )
    command = [sys.executable, "-c", program, IMAGE, spec.name]
    ran = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    assert ran.stderr == ""
    assert containers(docker, spec) == []


# ── names ───────────────────────────────────────────────────────────────────────────────────────


def test_a_name_is_held_once(docker: Docker, spec: SandboxSpec) -> None:
    with docker.start(spec):
        with pytest.raises(StartFailed, match="already held"):
            docker.start(spec)
        with pytest.raises(StartFailed, match="already held"):
            Docker().start(spec)
    docker.start(spec).close()


def test_a_dead_owners_name_is_taken_over(docker: Docker, spec: SandboxSpec) -> None:
    host, _, space, pid, start = str(current_owner()).split(":")
    left = foreign(docker, spec, f"{host}:an-earlier-boot:{space}:{pid}:{start}")
    with docker.start(spec) as sandbox:
        assert sandbox.id != left
        assert containers(docker, spec) == [sandbox.id]


@pytest.mark.parametrize("lease", ["elsewhere:boot:1:2:3", "nobody we know"])
def test_a_living_or_unknown_owners_container_is_not_touched(
    docker: Docker, spec: SandboxSpec, lease: str
) -> None:
    theirs = foreign(docker, spec, lease)
    try:
        with pytest.raises(StartFailed, match="belongs to another"):
            docker.start(spec)
        docker.reap()
        docker.engine.client.inspect_container(theirs)
    finally:
        docker.engine.client.remove_container(theirs, force=True)


def test_ours_with_another_spec_is_replaced(docker: Docker, spec: SandboxSpec) -> None:
    ours = foreign(docker, spec, str(current_owner()))
    with docker.start(spec) as sandbox:
        assert sandbox.id != ours


# ── a daemon that fails ─────────────────────────────────────────────────────────────────────────


def test_nobody_listens() -> None:
    for address in ("unix:///no/such/socket", "tcp://127.0.0.1:1"):
        with pytest.raises(RuntimeUnavailable, match=r"does not answer.*namespace"):
            Docker(address).check()
    with pytest.raises(RuntimeUnavailable, match="podman system service"):
        Podman("unix:///no/such/socket").check()


def test_a_remote_engine_gets_the_tree_in_a_volume(remote: Docker, spec: SandboxSpec) -> None:
    client = remote.engine.client
    with remote.start(spec) as sandbox:
        console = sandbox.boot(ORDERS)
        assert console.init_pid() is None
        assert sandbox.run(["cat", "/work/greeting"], timeout_s=20).stdout == b"hello\n"
        volumes = client.volumes(filters={"label": TRUSTED})["Volumes"]
        [mount] = client.inspect_container(sandbox.id)["Mounts"]
        assert mount["Name"] in {volume["Name"] for volume in volumes}
        assert not mount["RW"]
    client.remove_volume(mount["Name"])


def test_a_lost_reply_on_create_is_adopted(relay: Relay, remote: Docker, spec: SandboxSpec) -> None:
    remote._volume = remote._tree_source(remote.image(IMAGE))
    relay.fail_next(r"POST /\S+/containers/create\?name", "lose reply")
    with remote.start(spec) as sandbox:
        assert containers(remote, spec) == [sandbox.id]
        labels = remote.engine.client.inspect_container(sandbox.id)["Config"]["Labels"]
        assert len(labels[SPEC_LABEL]) == 64
    assert containers(remote, spec) == []
    remote.engine.client.remove_volume(remote._volume)


def test_a_container_that_nobody_told_of_goes_with_the_runtime(
    relay: Relay, remote: Docker, spec: SandboxSpec
) -> None:
    """The Engine dies as it makes it: whoever asked knows of none."""
    remote._volume = remote._tree_source(remote.image(IMAGE))
    relay.fail_next(r"POST /\S+/containers/create\?name", "lose reply")
    relay.fail_next(r"POST /\S+/containers/create\?name", "drop")
    relay.fail_next(r"GET /\S+/containers/\S+/json", "refuse")
    with pytest.raises((RuntimeUnavailable, StartFailed)):
        remote.start(spec)
    assert len(containers(remote, spec)) == 1
    remote.close()
    assert containers(remote, spec) == []
    remote.engine.client.remove_volume(remote._volume)


def test_a_daemon_that_says_500_twice_is_asked_again(relay: Relay, remote: Docker, spec: SandboxSpec) -> None:
    remote._volume = remote._tree_source(remote.image(IMAGE))
    for _ in range(2):
        relay.fail_next(r"POST /\S+/containers/create\?name", "refuse")
    remote.start(spec).close()
    remote.engine.client.remove_volume(remote._volume)


def test_a_daemon_that_dies_loses_the_sandbox(relay: Relay, remote: Docker, spec: SandboxSpec) -> None:
    sandbox = remote.start(spec)
    console = sandbox.boot(ORDERS)
    relay.cut()
    for use in (
        sandbox.written_bytes,
        sandbox.stop,
        sandbox.close,
        console.exit_code,
        lambda: sandbox.run(["true"], timeout_s=5),
        lambda: sandbox.read_archive("/work", limit_bytes=10**6),
    ):
        with pytest.raises(SandboxLost):
            use()
    with pytest.raises(RuntimeUnavailable):
        remote.check()
    relay.mend()
    sandbox.close()
    assert containers(remote, spec) == []
    remote.engine.client.remove_volume(remote._volume)


def test_a_container_removed_by_somebody_is_lost(docker: Docker, spec: SandboxSpec) -> None:
    sandbox = docker.start(spec)
    docker.engine.client.remove_container(sandbox.id, force=True)
    for use in (
        sandbox.stop,
        sandbox.written_bytes,
        sandbox.changed_paths,
        lambda: sandbox.boot(ORDERS),
        lambda: sandbox.read_archive("/etc", limit_bytes=10**6),
    ):
        with pytest.raises(SandboxLost):
            use()
    sandbox.close()


# ── images ──────────────────────────────────────────────────────────────────────────────────────


def test_build_tells_its_log_and_what_stands_in(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {IMAGE}\nLABEL terminal-gym.substituted='a stand-in'\nRUN echo spo''ken\n"
    )
    lines: list[str] = []
    recipe = ImageRecipe(f"tgym-test/built:{uuid.uuid4().hex[:8]}", tmp_path)
    image = docker.build(recipe, log=lines.append)
    try:
        assert "spoken" in lines
        assert image.substituted == "a stand-in"
        assert docker.build(recipe, log=lines.append) == image
    finally:
        docker.engine.client.remove_image(recipe.name, force=True)


def test_a_build_that_fails_shows_its_end(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo the rea''son; exit 3\n")
    with pytest.raises(BuildFailed) as caught:
        docker.build(ImageRecipe("tgym-test/failing:1", tmp_path))
    assert "the reason" in caught.value.log_tail


def test_what_cannot_be_pulled_is_missing(docker: Docker, tmp_path: Path) -> None:
    with pytest.raises(ImageMissing, match="cannot be pulled"):
        docker.build(ImageRecipe("127.0.0.1:1/tgym-test/none:1"))
    (tmp_path / "Dockerfile").write_text("FROM 127.0.0.1:1/tgym-test/none:1\n")
    with pytest.raises(ImageMissing, match="tgym-test/none"):
        docker.build(ImageRecipe("tgym-test/on-nothing:1", tmp_path))


_LEASES = b"""
import fcntl, os, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
kept = []
for at, _, names in os.walk("/tg/lib/python3.11"):
    for name in names:
        fd = os.open(f"{at}/{name}", os.O_RDONLY)
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            kept.append(fd)
        except OSError:
            os.close(fd)
os.write(1, b"%d leases" % len(kept))
time.sleep(600)
"""


def test_leases_on_the_trusted_tree_hold_up_nobody_else(docker: Docker, spec: SandboxSpec) -> None:
    """Whoever opens a leased file waits until the lease is given back, or for fs.lease-break-time: 45 seconds."""
    with docker.start(spec) as sandbox:
        stream = sandbox.boot(ORDERS).stream
        sandbox.write_archive(tar_of("tmp/lease.py", _LEASES))
        stream.send(b"/tg/bin/python3 -I -S -B /tmp/lease.py\n")
        stream.expect(rb"(\d+) leases", timeout=20)
        assert int(stream.match[1]) > 100
        began = time.monotonic()
        with docker.start(replace(spec, name=f"{spec.name}-neighbour")) as neighbour:
            neighbour.boot(ORDERS)
            assert time.monotonic() - began < 15.0


def tar_of(name: str, body: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(body)
        tar.addfile(entry, io.BytesIO(body))
    return made.getvalue()


def test_an_engine_that_lays_no_overlay_is_given_the_tree_itself(
    docker: Docker, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terminal_gym.sandbox.container.empty_beside", lambda tree: "/nonexistent/empty")
    with closing(Docker()) as runtime, runtime.start(spec) as sandbox:
        sandbox.boot(ORDERS)
        assert sandbox.run(["true"], timeout_s=10.0).exit_code == 0
        assert not runtime.own_views


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_socket_that_cannot_connect_is_closed(docker: Docker, tmp_path: Path) -> None:
    """Left to the collector, it is complained of in whatever runs then."""
    door = tmp_path / "docker.sock"
    door.symlink_to(docker.engine.address.removeprefix("unix://"))
    left: list[object] = []
    with closing(Docker(f"unix://{door}")) as runtime, unraisable(left):
        runtime.check()
        runtime.engine.client.close()
        door.unlink()
        with pytest.raises(RuntimeUnavailable):
            runtime.check()
        gc.collect()
    assert left == []


@contextmanager
def unraisable(left: list[object]) -> Iterator[None]:
    """Collect what the interpreter could not raise."""
    before, sys.unraisablehook = sys.unraisablehook, lambda told: left.append(str(told.exc_value))
    try:
        yield
    finally:
        sys.unraisablehook = before
