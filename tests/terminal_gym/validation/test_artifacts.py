"""What crosses into the judge's machine: plain files in, hostile archives refused or made harmless."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.validation import artifacts
from terminal_gym.validation.artifacts import BadArtifact, Filtered, filtered, pack_tests

KINDS = [
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
]


def archive(*entries: tarfile.TarInfo, body: bytes = b"x", format: int = tarfile.GNU_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as tar:
        for entry in entries:
            entry.size = len(body) if entry.isreg() else 0
            tar.addfile(entry, io.BytesIO(body))
    return made.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def through(path: str, *entries: tarfile.TarInfo) -> Filtered:
    return filtered([(path, archive(*entries))])


def names(found: Filtered) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(found.tar)) as tar:
        return tar.getnames()


def test_files_keep_their_place_and_their_bytes() -> None:
    found = through("/app/out", entry("out", tarfile.DIRTYPE), entry("out/a.txt"), entry("out/b", link=""))
    assert names(found) == ["app/out", "app/out/a.txt", "app/out/b"]
    assert found.dropped == ()
    with tarfile.open(fileobj=io.BytesIO(found.tar)) as tar:
        body = tar.extractfile("app/out/a.txt")
        assert body is not None
        assert body.read() == b"x"


def test_what_is_not_there_is_left_out() -> None:
    assert names(filtered([("/app/none", None), ("/app/x", archive(entry("x")))])) == ["app/x"]


@pytest.mark.parametrize(
    "bad",
    [
        entry("x", tarfile.SYMTYPE, "/etc/shadow"),  # F1: the declared path is a link
        entry("x", tarfile.SYMTYPE, "y"),
        entry("x", tarfile.CHRTYPE),  # F2: an endless device
        entry("x", tarfile.FIFOTYPE),
        entry("x", tarfile.LNKTYPE, "x"),  # a hard link to nothing that crossed
    ],
)
def test_what_may_not_cross_is_dropped_and_named(bad: tarfile.TarInfo) -> None:
    found = through("/app/x", bad)
    assert (names(found), found.dropped) == ([], ("/app/x",))


def test_links_inside_a_declared_folder_cross_and_links_out_of_it_do_not() -> None:
    top = entry("d", tarfile.DIRTYPE)
    found = through(
        "/app/d",
        top,
        entry("d/in", tarfile.SYMTYPE, "f"),
        entry("d/out", tarfile.SYMTYPE, "../../etc/passwd"),
    )
    assert names(found) == ["app/d", "app/d/in"]
    assert found.dropped == ("/app/d/out",)


def test_modes_owners_and_times_are_made_plain() -> None:
    odd = entry("x", mode=0o6755)
    odd.uid, odd.uname, odd.mtime = 1234, "eve", -5
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        odd.pax_headers = {"SCHILY.xattr.security.capability": "x", "comment": "y" * 5000}
        odd.size = 1
        tar.addfile(odd, io.BytesIO(b"x"))
    with tarfile.open(fileobj=io.BytesIO(filtered([("/x", made.getvalue())]).tar)) as tar:
        plain = tar.getmembers()[0]
    assert (plain.mode, plain.uid, plain.uname, plain.mtime, plain.pax_headers) == (0o755, 0, "", 0, {})


@pytest.mark.parametrize(
    "bad",
    [
        [entry("/etc/passwd")],
        [entry("x/../../etc/passwd")],
        [entry("y")],  # not below the declared path
        [entry("x", tarfile.DIRTYPE), entry("x/l", tarfile.SYMTYPE, "d"), entry("x/l/f")],  # below a link
    ],
    ids=["absolute", "dots", "elsewhere", "below a link"],
)
def test_names_that_lead_elsewhere_are_refused(bad: list[tarfile.TarInfo]) -> None:
    with pytest.raises(BadArtifact):
        through("/app/x", *bad)


def test_too_many_entries_and_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "LIMIT_ENTRIES", 10)
    with pytest.raises(BadArtifact, match="files"):
        through("/app/x", entry("x", tarfile.DIRTYPE), *(entry(f"x/{k}") for k in range(11)))
    monkeypatch.setattr(artifacts, "LIMIT_BYTES", 3)
    with pytest.raises(BadArtifact, match="bytes"):
        filtered([("/x", archive(entry("x"), body=b"four"))])


@given(cut=st.integers(0, 2000), flip=st.integers(0, 1999))
def test_damage_is_refused_or_harmless(cut: int, flip: int) -> None:
    whole = bytearray(archive(entry("x", tarfile.DIRTYPE), entry("x/a"), entry("x/b", tarfile.SYMTYPE, "a")))
    whole[flip % len(whole)] ^= 0x41
    try:
        found = filtered([("/app/x", bytes(whole[:cut]))])
    except BadArtifact:
        return
    assert all(name == "app/x" or name.startswith("app/x/") for name in names(found))


@given(
    parts=st.lists(st.tuples(st.text(max_size=12), st.sampled_from(KINDS), st.text(max_size=12)), max_size=6)
)
def test_nothing_leaves_the_declared_path(parts: list[tuple[str, bytes, str]]) -> None:
    try:
        found = through(
            "/app/x",
            *(entry(f"x/{name}", kind, link) for name, kind, link in parts if "\0" not in name + link),
        )
    except (BadArtifact, UnicodeEncodeError):
        return
    for name in names(found):
        assert name == "app/x" or name.startswith("app/x/")
        assert ".." not in name.split("/")


def test_tests_travel_without_caches_links_and_strangers(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_bytes(b"")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.txt").write_text("1")
    (tmp_path / "test_outputs.py").write_text("def test_a(): pass")
    (tmp_path / "conftest.py").write_text("")
    (tmp_path / "link").symlink_to("/etc/passwd")
    found = Filtered(pack_tests(tmp_path, own_conftest=False))
    assert names(found) == ["data", "data/in.txt", "test_outputs.py"]
    assert "conftest.py" in names(Filtered(pack_tests(tmp_path, own_conftest=True)))
    with tarfile.open(fileobj=io.BytesIO(found.tar)) as tar:
        assert {member.mode for member in tar} == {0o700, 0o600}
