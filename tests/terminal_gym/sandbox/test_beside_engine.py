"""Judges, and readers, beside an Engine of this machine: the same files, the same refusals, no container."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from terminal_gym.errors import ImageMissing, StartFailed
from terminal_gym.sandbox import beside_engine
from terminal_gym.sandbox.base import SandboxSpec
from terminal_gym.sandbox.container import Container, Docker
from terminal_gym.sandbox.engine import Engine
from terminal_gym.sandbox.namespace import Machine
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.trusted_runtime.orders import ShellOrders

pytestmark = pytest.mark.docker
IMAGE = "tgym-test/base:1"
ORDERS = ShellOrders("c0ffee00c0ffee00")
# Every kind of file, changed, new and gone, in the image's layers and above them.
SEEN = (
    "set -e; cat /etc/debian_version; hostname; ls /sys/class/net /sys/firmware; id -u; lscpu | grep ^CPU.s.:"
)
DIRTY = r"""
mkdir -p /app/deep/er && cd /app
echo one >one && ln one hard && ln -s one soft && ln -s /nowhere lost && mkfifo pipe
truncate -s 1M hole && printf 'caf\303\251' >"na
me" && chmod 4711 one && chown 12:34 soft hole && : >empty && mkdir none
rm -rf /usr/share/doc /etc/motd && mkdir /usr/share/doc && echo new >/usr/share/doc/new
mv /etc/debian_version /etc/moved
"""


@pytest.fixture
def docker(docker_runtime: Docker) -> Docker:
    if docker_runtime._judges is None:
        pytest.skip("no judges beside this engine: not root, not overlay2, or no control groups")
    return docker_runtime


def spec(*, judges: bool) -> SandboxSpec:
    return SandboxSpec(IMAGE, f"beside-{uuid.uuid4().hex[:12]}", judges=judges)


def test_a_judge_needs_no_container(docker: Docker) -> None:
    with docker.start(spec(judges=True)) as judge:
        assert isinstance(judge, Machine)
        judge.boot(ORDERS)
        ran = judge.run(
            ["sh", "-c", SEEN],
            timeout_s=20,
        )
        with docker.start(replace(spec(judges=False), name="beside")) as agent:
            assert isinstance(agent, Container)
            agent.boot(ORDERS)
            seen = agent.run(
                [
                    "sh",
                    "-c",
                    SEEN,
                ],
                timeout_s=20,
            )
    assert (ran.exit_code, ran.stdout) == (seen.exit_code, seen.stdout) != (0, b"")


def test_who_names_an_oci_runtime_has_judges_in_it() -> None:
    with closing(Docker(oci_runtime="runc")) as named, named.start(spec(judges=True)) as judge:
        assert isinstance(judge, Container)


def test_an_image_that_is_not_there_is_missing(docker: Docker) -> None:
    with pytest.raises(ImageMissing, match="tgym-test/none"):
        docker.start(replace(spec(judges=True), image="tgym-test/none:1"))


@pytest.mark.parametrize(
    "said",
    [
        {"Driver": "overlayfs"},  # containerd's snapshots
        {"DefaultRuntime": "runsc"},
        {"SecurityOptions": ["name=seccomp,profile=default", "name=userns"]},
        {"SecurityOptions": ["name=rootless"]},
        {"SecurityOptions": ["name=selinux"]},
        {"DockerRootDir": "/nowhere"},
    ],
)
def test_other_engines_have_their_judges_in_containers(docker: Docker, said: dict[str, Any]) -> None:
    engine = Engine("docker", docker.engine.address, "")
    engine.about = docker.engine.about | said
    assert beside_engine.judges(engine, lambda _name: {}) is None
    if "Driver" not in said and "DockerRootDir" not in said:
        assert not engine.is_plain
    assert beside_engine.judges(docker.engine, lambda _name: {}) is not None
    engine.is_plain = False
    engine.about = docker.engine.about
    assert beside_engine.judges(engine, lambda _name: {}) is None


def test_judges_that_could_write_to_memory_only_stand_in_containers(
    docker: Docker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What they write would count as memory; and no overlay can be laid over an overlay."""
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    assert beside_engine.judges(docker.engine, lambda _name: {}) is None
    with overlay(tmp_path) as merged:
        monkeypatch.setattr(tempfile, "tempdir", str(merged))
        assert beside_engine.judges(docker.engine, lambda _name: {}) is None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert beside_engine.judges(docker.engine, lambda _name: {}) is not None


@contextmanager
def overlay(folder: Path) -> Iterator[Path]:
    for name in ("lower", "upper", "work", "merged"):
        (folder / name).mkdir()
    options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "tgym-test", f"{folder}/merged"], check=True)
    try:
        yield folder / "merged"
    finally:
        subprocess.run(["umount", f"{folder}/merged"], check=True)


def test_what_cannot_be_mounted_is_left_to_the_engine(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object, **_settings: object) -> None:
        raise StartFailed("device or resource busy")

    monkeypatch.setattr(Machine, "mount", refused)
    with docker.start(spec(judges=True)) as judge:
        assert isinstance(judge, Container)
        judge.boot(ORDERS)
        assert judge.run(["touch", "/app"], timeout_s=20).exit_code == 0
        judge.stop()
        assert judge.read_archive("/app", limit_bytes=10_000) is not None
        assert judge._reader is None


def test_layers_that_are_elsewhere_bring_a_container(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    inspected = docker._inspected

    def moved(name: str) -> tuple[str, Any]:
        known_as, found = inspected(name)
        return known_as, dict(found) | {"GraphDriver": {"Data": {"UpperDir": "/nowhere/overlay2/x/diff"}}}

    monkeypatch.setattr(docker, "_inspected", moved)
    with docker.start(spec(judges=True)) as judge:
        assert isinstance(judge, Container)


@pytest.fixture
def built(docker: Docker, tmp_path: Path) -> Iterator[ImageRecipe]:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {IMAGE}\nRUN echo {uuid.uuid4().hex} >/layer && rm /etc/issue\n"
    )
    recipe = ImageRecipe(f"tgym-test/beside:{uuid.uuid4().hex[:8]}", tmp_path)
    docker.build(recipe)
    yield recipe
    docker.remove_image(recipe.name)


def test_what_an_image_keeps_in_a_volume_is_read(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nVOLUME /data\n")
    recipe = ImageRecipe(f"tgym-test/volume:{uuid.uuid4().hex[:8]}", tmp_path)
    docker.build(recipe)
    try:
        with docker.start(replace(spec(judges=False), image=recipe.name)) as sandbox:
            sandbox.boot(ORDERS)
            assert sandbox.run(["sh", "-c", "echo 42 >/data/answer"], timeout_s=20).exit_code == 0
            sandbox.stop()
            assert entries(sandbox.read_archive("/data/answer", limit_bytes=10_000))["answer"][-1] == b"42\n"
    finally:
        docker.remove_image(recipe.name)


def test_an_image_goes_while_a_judge_stands_on_what_it_shares(docker: Docker, built: ImageRecipe) -> None:
    with docker.start(spec(judges=True)) as judge:
        judge.boot(ORDERS)
        docker.remove_image(built.name)
        docker.engine.client.tag(IMAGE, "tgym-test/other-name", "1")
        docker.remove_image("tgym-test/other-name:1")
        assert judge.run(["test", "-e", "/etc/debian_version"], timeout_s=20).exit_code == 0


def test_a_fork_leaves_them_to_its_parent(docker: Docker) -> None:
    with docker.start(spec(judges=True)) as judge:
        judge.boot(ORDERS)
        program = (
            "import os, sys\n"
            "from terminal_gym.sandbox.base import SandboxSpec, open_runtime\n"
            "from terminal_gym.trusted_runtime.orders import ShellOrders\n"
            "runtime = open_runtime('docker')\n"
            "judge = runtime.start(SandboxSpec(sys.argv[1], sys.argv[2], judges=True))\n"
            "judge.boot(ShellOrders('c0ffee00c0ffee00'))\n"
            "if (child := os.fork()) == 0:\n"
            "    sys.exit(0)\n"
            "os.waitpid(child, 0)\n"
            "print(judge.run(['echo', 'alive'], timeout_s=20).stdout)\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program, IMAGE, f"fork-{uuid.uuid4().hex[:8]}"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert ran.stdout == "b'alive\\n'\n", ran.stderr


def test_an_image_stays_while_a_judge_stands_on_it(docker: Docker, built: ImageRecipe) -> None:
    with docker.start(replace(spec(judges=True), image=built.name)) as judge:
        judge.boot(ORDERS)
        assert judge.run(["test", "-e", "/etc/issue"], timeout_s=20).exit_code == 1
        with pytest.raises(StartFailed, match=f"could not remove image {built.name}: beside-.* uses it"):
            docker.remove_image(built.name)
        assert judge.run(["test", "-s", "/layer"], timeout_s=20).exit_code == 0


def entries(archive: bytes | None) -> dict[str, tuple[Any, ...]]:
    assert archive is not None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            entry.name.rstrip("/"): (
                entry.type,
                entry.mode & 0o7777,
                (entry.uid, entry.gid),
                entry.linkname,
                _contents(tar, entry),
            )
            for entry in tar
        }


def _contents(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(entry) if entry.isfile() or entry.islnk() else None
    return b"" if opened is None else opened.read()


@pytest.mark.parametrize(
    "path", ["/app", "/app/one", "/app/soft", "/app/pipe", "/var", "/usr/share/doc", "/root"]
)
def test_a_stopped_container_is_read_as_the_engine_reads_it(docker: Docker, path: str) -> None:
    with docker.start(spec(judges=False)) as sandbox:
        assert isinstance(sandbox, Container)
        sandbox.boot(ORDERS)
        assert sandbox.run(["sh", "-c", DIRTY], timeout_s=20).exit_code == 0
        sandbox.stop()
        ours = entries(sandbox.read_archive(path, limit_bytes=1 << 26))
        assert sandbox._reader is not None
        theirs = entries(sandbox._read(sandbox.id, path, limit_bytes=1 << 26))
        assert ours == theirs
        assert sandbox.read_archive("/usr/share/doc/none", limit_bytes=1000) is None


def test_what_the_engine_mounts_is_read_by_the_engine(docker: Docker) -> None:
    with docker.start(spec(judges=False)) as sandbox:
        assert isinstance(sandbox, Container)
        sandbox.boot(ORDERS)
        assert sandbox.run(["sh", "-c", "echo 127.0.0.1 mine >>/etc/hosts"], timeout_s=20).exit_code == 0
        sandbox.stop()
        for path in ("/etc/hosts", "/app/../etc/hosts"):
            assert entries(sandbox.read_archive(path, limit_bytes=10_000))["hosts"][-1].endswith(b" mine\n")


def test_what_is_written_after_a_reading_is_read_too(docker: Docker) -> None:
    with docker.start(spec(judges=False)) as sandbox:
        for number in (b"1\n", b"2\n"):
            sandbox.boot(ORDERS)
            assert (
                sandbox.run(
                    ["sh", "-c", f"echo {number.decode().strip()} >/tmp/said"], timeout_s=20
                ).exit_code
                == 0
            )
            sandbox.stop()
            assert entries(sandbox.read_archive("/tmp/said", limit_bytes=1000))["said"][-1] == number
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("tmp/put"))
        sandbox.write_archive(packed.getvalue())
        assert "put" in entries(sandbox.read_archive("/tmp/put", limit_bytes=1000))
        sandbox.boot(ORDERS)
        assert sandbox.run(["rm", "/tmp/said"], timeout_s=20).exit_code == 0
        sandbox.stop()
        assert sandbox.read_archive("/tmp/said", limit_bytes=1000) is None
