"""A repository's own Dockerfile: read strictly, followed within bounds, and what it leaves is an image by recipe."""

from __future__ import annotations

import io
import secrets
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from kit.repositories import repository

from env_registry.pipeline.follow import Follower
from env_registry.pipeline.images import Images
from env_registry.pipeline.own_dockerfile import own_dockerfile, read_stages
from env_registry.pipeline.settings import Build, Settings
from env_registry.pipeline.stage import Rejected, Row
from terminal_gym.errors import RuntimeUnavailable
from terminal_gym.sandbox.base import Runtime, SandboxSpec, open_runtime
from terminal_gym.trusted_runtime.orders import ShellOrders

TWO_STAGES = r"""# syntax=docker/dockerfile:1
ARG BASE=IMAGE
FROM $BASE AS unused
RUN false
FROM ${BASE} AS Made
WORKDIR /src
COPY . .
RUN make && ls /etc/debian_version
FROM made AS checked
RUN test -f all.c
FROM ${BASE}
ARG LEVEL=3
ENV GREETING="say \"$LEVEL\" \$5" PLAIN=yes
COPY --from=checked /src/all.c /usr/share/renamed.c
COPY --from=1 /src/src /opt/parts/
COPY --chown=1234:5678 README.md Makefile /opt/given/
COPY src/part1.c ../Makefile /opt/
ADD ../given.tar.gz README.md /opt/added/
RUN echo $LEVEL > /opt/level && rm -r /etc/skel && mkdir /var/lib/own && chmod 750 /var/lib/own && \
    chown 77:77 /var/lib/own && echo own > /app-is-elsewhere
RUN mkdir /opt/links && echo linked > /opt/links/a && ln /opt/links/a /opt/links/b && ln /opt/links/a /usr/share/c
RUN ["sh", "-c", "mkdir -p /app/src && echo changed > /app/src/part2.c && echo $PLAIN > /app/made"]
CMD ["nothing"]
"""


def write(tmp_path: Path, text: str) -> Path:
    folder = repository(tmp_path)
    (folder / "Dockerfile").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("RUN true", "line 1: RUN before the first FROM"),
        ("# nothing\n", "no FROM"),
        ("FROM a\nONBUILD RUN true", "line 2: ONBUILD is not followed"),
        ("FROM a\nRUN <<END\ntrue\nEND", "line 2: RUN with a here-document"),
        ("FROM a\nRUN --mount=type=secret,id=k cat /run/secrets/k", "line 2: RUN with type=secret"),
        ("FROM a\nADD https://example.invalid/x /x", "line 2: ADD of an address"),
        ("FROM a\nADD git@example.invalid:x /x", "line 2: ADD of an address"),
        ("FROM a\nCOPY --parents a /x", "line 2: COPY with --parents"),
        ("FROM a\nCOPY 'a /x", "No closing quotation"),
        ("FROM a b c d", "FROM a b c d cannot be read"),
    ],
)
def test_what_is_not_followed_is_named_by_its_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(text)
    with pytest.raises(Rejected) as caught:
        read_stages(file)
    assert caught.value.reason == "dockerfile"
    assert says in caught.value.detail
    assert str(tmp_path) not in caught.value.detail


def test_only_stages_that_the_last_one_needs_are_followed(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(TWO_STAGES)
    stages = read_stages(file)
    assert [stage.names for stage in stages] == [("1", "made"), ("2", "checked"), ("3",)]
    assert [stage.base for stage in stages] == ["IMAGE", "made", "IMAGE"]


def test_a_dockerignore_that_is_no_text(tmp_path: Path) -> None:
    folder = write(tmp_path, "FROM a\n")
    (folder / ".dockerignore").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(Rejected, match="dockerignore"):
        Follower(Build(), cast(Runtime, None), folder, name="x", into=tmp_path / "layer.tar")


def test_a_link_is_no_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("FROM a\n")
    (tmp_path / "Dockerfile").symlink_to("other")
    assert own_dockerfile(tmp_path) is None


@pytest.fixture(params=["docker", "namespace"])
def maker(request: pytest.FixtureRequest, docker_runtime: Runtime, base: str) -> Iterator[Runtime]:
    """Each runtime; the base image is taken over from Docker where it is not there."""
    with closing(open_runtime(str(request.param))) as runtime:
        try:
            runtime.check()
        except RuntimeUnavailable as error:
            pytest.skip(f"{request.param}: {error}")
        yield runtime
        if runtime.name == "namespace":
            runtime.remove_image(base)


@pytest.mark.docker
def test_it_is_followed_and_leaves_an_image(
    settings: Settings, built: Callable[[Settings], Row], base: str, maker: Runtime, tmp_path: Path
) -> None:
    settings = replace(settings, build=replace(settings.build, runtime=maker.name, timeout_s=60))
    folder = write(tmp_path, TWO_STAGES.replace("IMAGE", base))
    with tarfile.open(folder / "given.tar.gz", "w:gz") as tar:
        tar.add(folder / "Makefile", "deep/inside")
    with tarfile.open(
        folder.parent / "given.tar.gz", "w:gz"
    ) as tar:  # of this machine, outside the repository
        tar.add(folder / "README.md", "deep/inside")
    row = built(settings)
    assert row.kept, row.detail
    assert row.cells["system"] == "dockerfile"
    assert str(row.cells["dockerfile"]).endswith("COPY . /app\n")
    maker.remove_image(str(row.cells["image"]))  # by recipe: it is made again
    with Images(settings, maker).lend("path:proj", str(row.cells["image"])) as image:
        env = dict(image.env)
        with maker.start(SandboxSpec(image.name, f"own-{secrets.token_hex(4)}")) as sandbox:
            sandbox.boot(ShellOrders(secrets.token_hex(8), cwd="/"))

            def says(script: str) -> str:
                ran = sandbox.run(["sh", "-c", script], timeout_s=20)
                return (ran.stdout + ran.stderr).decode().strip()

            assert (
                says("cat /opt/level /app/made /app/src/part2.c /app-is-elsewhere") == "3\nyes\nchanged\nown"
            )
            assert says("stat -c '%a %u:%g' /var/lib/own") == "750 77:77"
            assert says("stat -c '%u:%g' /opt/given/README.md /opt/part1.c") == "1234:5678\n0:0"
            assert says("test -e /etc/skel || echo gone") == "gone"
            assert says("ls /opt/parts | wc -l; test -s /usr/share/renamed.c && echo there") == "4\nthere"
            assert says("ls -d /src /tgym-build 2>/dev/null || echo none") == "none"
            assert says("head -c4 /opt/added/deep/inside; ls /opt/added") == "all:README.md\ndeep"
            assert says("cat /opt/links/a /opt/links/b /usr/share/c") == "linked\nlinked\nlinked"
            part = (folder / "src" / "part3.c").read_text().strip()
            assert says("cat /app/src/part3.c") == part  # the repository, where the Dockerfile left nothing
    assert (env["GREETING"], env["PLAIN"], image.workdir) == ('say "3" $5', "yes", "/app")
    maker.remove_image(str(row.cells["image"]))


def bomb(path: Path) -> None:
    """An archive of some kilobytes that grows to 512 MiB."""
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("zeros")
        entry.size = 512 << 20
        tar.addfile(entry, Zeros())


class Zeros(io.RawIOBase):
    """As many of them as are asked for."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


@pytest.mark.docker
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("RUN exit 3", "build-failed"),
        ("COPY nothing-of-that-name /x", "build-failed"),
        ("COPY ../../../../../../../../../etc/passwd /x", "build-failed"),
        ("RUN echo 'curl: (6) Could not resolve host: a.example' >&2; exit 6", "network"),
        ("RUN n=0; while n=$((n+1)); do head -c 8000000 /dev/zero > /$n; done", "disk-full"),
        ("RUN bomb() { bomb | bomb & }; bomb; sleep 60", "build-failed build-timeout"),
        ("RUN sleep 60", "build-timeout"),
        ('ENV A="b', "dockerfile"),
        ("ADD bomb.tar.gz /bomb", "disk-full build-failed"),
        ("FROM tgym-none.invalid/none:1", "base-image"),
        ("FROM scratch", "base-image"),
    ],
)
def test_a_hostile_or_broken_one_is_ended_and_named(
    settings: Settings, built: Callable[[Settings], Row], base: str, tmp_path: Path, body: str, reason: str
) -> None:
    folder = write(tmp_path, f"FROM {base}\n{body}\n")
    if "bomb" in body and "ADD" in body:
        bomb(folder / "bomb.tar.gz")
    row = built(replace(settings, build=replace(settings.build, timeout_s=5)))
    assert not row.kept
    assert row.reason in reason.split()
    assert "line" in row.detail or row.reason in ("base-image", "disk-full")


@pytest.mark.docker
def test_the_generated_one_stands_in_where_it_may(
    settings: Settings, built: Callable[[Settings], Row], base: str, tmp_path: Path
) -> None:
    write(tmp_path, f"FROM {base}\nRUN false\n")
    for wanted, system in (("own", "dockerfile"), ("either", "make"), ("generated", "make")):
        row = built(replace(settings, build=replace(settings.build, dockerfile=wanted)))
        assert (row.cells["system"], row.kept) == (system, wanted != "own")
        (settings.work / "build.jsonl").unlink()
