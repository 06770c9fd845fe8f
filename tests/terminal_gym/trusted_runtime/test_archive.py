"""A path packed as it is, and what is unpacked again."""

import base64
import io
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.trusted_runtime.guest import archive, unpack


def packed(path: Path, limit: int = 1 << 20) -> tarfile.TarFile:
    out = io.BytesIO()
    archive.pack(str(path), limit, out)
    out.seek(0)
    return tarfile.open(fileobj=out, errors="surrogateescape")  # the caller reads it


def test_every_kind_of_entry(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub/file").write_text("content")
    (top / "sub/file").chmod(0o4755)
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "fifo")
    (top / os.fsdecode(b"n\xffm\x1b")).write_text("")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(top / "socket"))
        entries = {entry.name: entry for entry in packed(top)}
    assert set(entries) == {"top", "top/sub", "top/sub/file", "top/link", "top/fifo", "top/n\udcffm\x1b"}
    assert entries["top/link"].linkname == "/etc/passwd"
    assert entries["top/fifo"].isfifo()
    assert entries["top/sub/file"].mode == 0o4755  # whoever unpacks it filters it
    assert packed(top / "sub/file").getnames() == ["file"]
    assert packed(top / "link").getmember("link").issym()


def run(*argv: str) -> tuple[int, bytes]:
    done = subprocess.run([sys.executable, archive.__file__, *argv], capture_output=True, check=False)
    return done.returncode, done.stdout


def test_exit_codes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x" * 5000)
    assert run("pack", str(tmp_path / "none"), "100") == (3, b"")
    assert run("pack", str(tmp_path / "file" / "below"), "100") == (3, b"")
    assert run("pack", str(tmp_path), "5000") == (4, b"")
    assert run("unpack", str(tmp_path), "5000") == (2, b"")
    assert run("pack", str(tmp_path), "10000")[0] == 0


def test_a_sparse_terabyte_costs_nothing(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1 << 40)
    with pytest.raises(archive.OverLimit):
        packed(tmp_path)


def test_a_path_deeper_than_can_be_named_is_over_the_limit(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(archive.OverLimit):
        packed(tmp_path)


def tar(*entries: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as writing:
        for entry in entries:
            writing.addfile(entry, io.BytesIO(b"x" * entry.size))
    return base64.b64encode(out.getvalue())


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


@pytest.mark.parametrize(
    "entries",
    [
        [entry("/absolute")],
        [entry("../up")],
        [entry("a/../../up")],
        [entry("link", tarfile.SYMTYPE, "/"), entry("link/etc")],
        [entry("a/link", tarfile.SYMTYPE, ".."), entry("./a//link/b/c")],
        [entry("hard", tarfile.LNKTYPE, "../../etc/passwd")],
        [entry("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [entry("null", tarfile.CHRTYPE)],
        [entry("pipe", tarfile.FIFOTYPE)],
    ],
)
def test_what_would_land_elsewhere_is_refused(tmp_path: Path, entries: list[tarfile.TarInfo]) -> None:
    with pytest.raises(unpack.BadArchive):
        unpack.unpack(tar(*entries), str(tmp_path / "root"))
    assert {path.name for path in tmp_path.iterdir()} <= {"root"}


def test_what_is_in_the_way_is_replaced_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("kept")
    root = tmp_path / "root"
    (root / "was-folder/sub").mkdir(parents=True)
    (root / "was-link").symlink_to(tmp_path / "outside")
    (root / "was-file").write_text("")
    unpack.unpack(
        tar(
            entry("was-folder", size=3),
            entry("was-link", size=3),
            entry("was-file", tarfile.DIRTYPE),
            entry("was-file/new", size=3),
            entry("deep/er/file", size=3),
            entry("hard", tarfile.LNKTYPE, "deep/er/file"),
        ),
        str(root),
    )
    assert (tmp_path / "outside").read_text() == "kept"
    for name in ("was-folder", "was-link", "was-file/new", "deep/er/file", "hard"):
        assert (root / name).read_text() == "xxx"


@given(line=st.binary(max_size=300))
def test_garbage_is_a_bad_archive(tmp_path_factory: pytest.TempPathFactory, line: bytes) -> None:
    root = tmp_path_factory.mktemp("root")
    for text in (line, base64.b64encode(line)):
        try:
            unpack.unpack(text, str(root))
        except unpack.BadArchive:
            continue
    assert list(root.iterdir()) == []


def test_round_trip(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(os.urandom(70_000))
    (tmp_path / "a/l").symlink_to("b/c")
    out = io.BytesIO()
    archive.pack(str(tmp_path / "a"), 1 << 20, out)
    unpack.unpack(base64.b64encode(out.getvalue()), str(tmp_path / "new"))
    assert (tmp_path / "new/a/l").read_bytes() == (tmp_path / "a/b/c").read_bytes()
