"""A Dockerfile without a daemon, on the host's root: what its instructions leave behind, and what is refused."""

from __future__ import annotations

import io
import os
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from terminal_gym.errors import BuildFailed, ImageMissing, RuntimeUnavailable
from terminal_gym.sandbox import dockerfile
from terminal_gym.sandbox.base import Image, SandboxSpec
from terminal_gym.sandbox.namespace import Namespace
from terminal_gym.tasks.image import ImageRecipe


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Namespace]:
    opened = Namespace(tmp_path / "store")
    try:
        opened.check()
    except RuntimeUnavailable as error:
        pytest.skip(str(error))
    yield opened
    opened.close()


def build(runtime: Namespace, context: Path, dockerfile: str, **options: object) -> Image:
    (context / "Dockerfile").write_text(dockerfile)
    settings = {"host_allowed": True, "host_commands": ("sh",)} | options
    return runtime.build(ImageRecipe("kit:1", context, **settings))  # type: ignore[arg-type]


def content(runtime: Namespace, path: str) -> bytes | None:
    with runtime.start(SandboxSpec("kit:1", f"r-{uuid.uuid4().hex[:12]}")) as sandbox:
        packed = sandbox.read_archive(path, limit_bytes=1 << 20)
    if packed is None:
        return None
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        stream = tar.extractfile(tar.getmembers()[0])
        return stream.read() if stream else b""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "files" / "deep").mkdir(parents=True)
    (folder / "files" / "one").write_text("1")
    (folder / "files" / "deep" / "two").write_text("2")
    (folder / "secret").write_text("s")
    (folder / ".dockerignore").write_text("secret\n")
    return folder


def test_instructions_leave_what_docker_would(runtime: Namespace, context: Path) -> None:
    image = build(
        runtime,
        context,
        "ARG V=x\nFROM debian:bookworm AS base\nRUN never-run-on-the-host\n\n"
        "FROM base AS made\nRUN mkdir /out && echo built > /out/file\n\n"
        'FROM base\n# a comment\nENV A=1 B="two words"\nARG C=${A}3\nWORKDIR /app\nWORKDIR sub\n'
        "COPY files/ /app/\nCOPY files/one renamed\nCOPY --from=made /out/file /got/\n"
        'RUN echo "$A $B $C $PWD" \\\n    > said\nUSER nobody\nEXPOSE 80\nCMD ["sh"]\n',
    )
    assert (image.env, image.workdir, image.user) == ({"A": "1", "B": "two words"}, "/app/sub", "nobody")
    assert image.substituted.startswith("host root of ")
    assert content(runtime, "/app/deep/two") == b"2"
    assert content(runtime, "/app/sub/renamed") == b"1"
    assert content(runtime, "/got/file") == b"built\n"
    assert content(runtime, "/app/sub/said") == b"1 two words 13 /app/sub\n"
    assert content(runtime, "/out") is None


def test_add_unpacks_an_archive_and_copy_does_not(runtime: Namespace, context: Path) -> None:
    with tarfile.open(context / "app.tgz", "w:gz") as tar:
        tar.add(context / "files", "app")
        link = tarfile.TarInfo("app/deep/same")
        link.type, link.linkname = tarfile.LNKTYPE, "app/one"
        tar.addfile(link)
    build(runtime, context, "FROM base AS base\nFROM base\nADD app.tgz /put\nCOPY app.tgz /as/is\n")
    assert content(runtime, "/put/app/deep/two") == b"2"
    assert content(runtime, "/put/app/deep/same") == b"1"
    assert content(runtime, "/put/app.tgz") is None
    assert content(runtime, "/as/is") == (context / "app.tgz").read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has one uid in a sandbox")
def test_what_an_archive_says_of_owners_is_kept(runtime: Namespace, context: Path) -> None:
    with tarfile.open(context / "app.tar", "w") as tar:
        entry = tarfile.TarInfo("owned")
        entry.uid, entry.gid, entry.mode = 77, 78, 0o4750
        tar.addfile(entry)
    copies = "ADD app.tar /kept/\nADD --chown=5:6 app.tar /told/\nCOPY secret* files/one /root/"
    build(runtime, context, f"FROM base AS base\nFROM base\n{copies}\n")
    with runtime.start(SandboxSpec("kit:1", f"r-{uuid.uuid4().hex[:12]}")) as sandbox:
        found = {}
        for path in ("/kept/owned", "/told/owned", "/root/one"):
            packed = sandbox.read_archive(path, limit_bytes=1 << 20)
            with tarfile.open(fileobj=io.BytesIO(packed or b"")) as tar:
                [one] = tar.getmembers()
            found[path] = one.uid, one.gid, oct(one.mode)
    assert found["/kept/owned"] == (77, 78, "0o4750")
    assert found["/told/owned"] == (5, 6, "0o4750")
    assert found["/root/one"][:2] == (0, 0)


def test_an_unchanged_instruction_is_not_run_again(runtime: Namespace, context: Path) -> None:
    build(runtime, context, "FROM base AS base\nFROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\n")
    first = content(runtime, "/id")
    (runtime.store.folder / "images" / "kit%3A1@host.json").unlink()
    build(
        runtime,
        context,
        "FROM base AS base\nFROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\nENV A=b\n",
    )
    assert content(runtime, "/id") == first


@pytest.mark.parametrize(
    ("instruction", "says"),
    [
        ("RUN echo reason; false", "Dockerfile:3: RUN ended with 1"),
        ("FLY away", "Dockerfile:3: .* FLY"),
        ("COPY none /", "Dockerfile:3: none is not in the build context"),
        ("COPY secret /", None),
        ("ADD https://example.invalid/x /", "Dockerfile:3"),
    ],
)
def test_what_cannot_be_built_is_named(
    runtime: Namespace, context: Path, instruction: str, says: str | None
) -> None:
    text = f"FROM x AS base\nFROM base\n{instruction}\n"
    if says is None:  # ignored by .dockerignore: never copied
        build(runtime, context, text)
        assert content(runtime, "/secret") is None
        return
    with pytest.raises(BuildFailed, match=says) as caught:
        build(runtime, context, text)
    if "reason" in instruction:
        assert "reason" in caught.value.log_tail
    assert not list(runtime.store.layers.glob(".draft-*"))


def test_the_host_stands_in_only_where_it_may(runtime: Namespace, context: Path) -> None:
    text = "FROM tgym-none/none:1 AS base\nFROM base\n"
    with pytest.raises(ImageMissing, match="tgym-none/none:1"):
        build(runtime, context, text, host_allowed=False)
    with pytest.raises(ImageMissing, match="no-such-command missing"):
        build(runtime, context, text, host_commands=("no-such-command",))


def test_a_link_in_the_image_leads_nowhere_outside(runtime: Namespace, context: Path, tmp_path: Path) -> None:
    target = tmp_path / "outside"
    target.mkdir()
    build(
        runtime, context, f"FROM x AS base\nFROM base\nRUN ln -s {target} /link\nCOPY files/one /link/one\n"
    )
    assert not list(target.iterdir())
    assert content(runtime, f"{target}/one") == b"1"


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("$A-${A}", "1-1"),
        ("${B:-x} ${A:-x}", "x 1"),
        ("${A:+y}${B:+y}", "y"),
        (r"\$A $B", "$A "),
    ],
)
def test_variables(text: str, gives: str) -> None:
    assert dockerfile.substitute(text, {"A": "1"}) == gives


@pytest.mark.parametrize(
    ("sources", "fails"),
    [("/../../../../../../../../../..{loot}/planted", False), ("/a /a/link/planted", True)],
    ids=["dots", "link"],
)
def test_what_a_stage_gives_is_laid_nowhere_else_on_the_host(
    runtime: Namespace, context: Path, tmp_path: Path, sources: str, fails: bool
) -> None:
    loot = tmp_path / "loot"
    loot.mkdir()
    stage = f"RUN mkdir -p {loot} /a && echo 1 > {loot}/planted && ln -s {loot} /a/link"
    copy = f"COPY --from=made {sources.format(loot=loot)} /got/"
    text = f"FROM x AS base\nFROM base AS made\n{stage}\nFROM base\n{copy}\n"
    if fails:
        with pytest.raises(BuildFailed, match="behind a link"):
            build(runtime, context, text)
    else:
        build(runtime, context, text)
        assert content(runtime, "/got/planted") == b"1\n"
    assert not list(loot.iterdir())
