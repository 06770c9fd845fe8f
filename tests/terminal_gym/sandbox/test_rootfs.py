"""Images of the embedded runtime: archives are unpacked without trust, the host's layer hides and fits."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest
from kit.sparse import sparse_tar

from terminal_gym.errors import ImageMissing
from terminal_gym.sandbox import rootfs
from terminal_gym.sandbox.rootfs import BadArchive, Store, Stored

Entry = tuple[str, bytes | None, str]  # name, content (None: see type), type and target


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def layer(*entries: Entry) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content, kind in entries:
            info = tarfile.TarInfo(name)
            info.uid, info.gid, info.mode = os.geteuid(), os.getegid(), 0o755
            info.type = {"f": b"0", "d": b"5", "l": b"2", "h": b"1", "c": b"3"}[kind[0]]
            info.linkname, info.size = kind[2:], len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    return made.getvalue()


def config(*layers: bytes) -> bytes:
    ids = ["sha256:" + hashlib.sha256(each).hexdigest() for each in layers]
    settings = {"Env": ["A=b=c", "PATH=/bin"], "WorkingDir": "/w", "User": "me"}
    return json.dumps({"config": settings, "rootfs": {"type": "layers", "diff_ids": ids}}).encode()


def docker_archive(path: Path, *layers: bytes) -> Path:
    files = {f"{i}/layer.tar": each for i, each in enumerate(layers)} | {"c.json": config(*layers)}
    manifest = [
        {"Config": "c.json", "RepoTags": ["kit:1"], "Layers": [f"{i}/layer.tar" for i in range(len(layers))]}
    ]
    with tarfile.open(path, "w") as tar:
        for name, data in (files | {"manifest.json": json.dumps(manifest).encode()}).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def oci_layout(folder: Path, *layers: bytes) -> Path:
    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (folder / "blobs/sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    packed = [blob(gzip.compress(each)) for each in layers]
    manifest = blob(json.dumps({"config": blob(config(*layers)), "layers": packed}).encode())
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "kit:1"}
    (folder / "index.json").write_text(json.dumps({"manifests": [manifest]}))
    return folder


@pytest.mark.parametrize("form", ["docker-archive", "oci"])
def test_layers_are_unpacked_once_and_deletions_are_whiteouts(
    store: Store, tmp_path: Path, form: str
) -> None:
    base = layer(
        ("etc", None, "d"),
        ("etc/one", b"1", "f"),
        ("etc/link", None, "l:one"),
        ("etc/same", None, "h:etc/one"),
    )
    top = layer(("etc/.wh.one", b"", "f"), ("srv/.wh..wh..opq", b"", "f"), ("srv/new", b"2", "f"))
    made = (
        docker_archive(tmp_path / "a.tar", base, top)
        if form != "oci"
        else oci_layout(tmp_path / "o", base, top)
    )
    image = rootfs.load(store, made)
    assert (image.name, image.env, image.workdir, image.user) == (
        "kit:1",
        {"A": "b=c", "PATH": "/bin"},
        "/w",
        "me",
    )
    upper, lower = store.rootfs(image).layers
    assert (lower / "etc/link").readlink() == Path("one")
    assert (lower / "etc/same").read_bytes() == b"1"
    gone = (upper / "etc/one").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(upper / "srv", rootfs.opaque_attribute()) == b"y"
    before = lower.stat().st_mtime_ns
    assert rootfs.load(store, made) == image == store.image("kit:1")
    assert lower.stat().st_mtime_ns == before
    assert not list(store.layers.glob(".draft-*"))


@pytest.mark.parametrize(
    "entries",
    [
        [("../out", b"x", "f")],
        [("a/../../out", b"x", "f")],
        [("a", None, "l:/"), ("a/out", b"x", "f")],
        [("a", None, "l:.."), ("a/out", b"x", "f")],
        [("a", None, "h:../../../secret")],
    ],
)
def test_a_hostile_layer_writes_nothing_outside(store: Store, tmp_path: Path, entries: list[Entry]) -> None:
    (tmp_path / "secret").write_text("s")
    with pytest.raises(BadArchive):
        rootfs.load(store, docker_archive(tmp_path / "a.tar", layer(*entries)))
    assert not list(tmp_path.rglob("out"))
    assert sorted(path.name for path in store.layers.iterdir()) == []


def test_the_holes_of_a_sparse_file_stay_holes(store: Store, tmp_path: Path) -> None:
    """Two kilobytes that claim 64 GiB: written out as zeros they filled the disk of a machine."""
    rootfs.load(store, docker_archive(tmp_path / "a.tar", sparse_tar("big", 64 << 30, b"begins")), "sparse")
    (big,) = store.layers.glob("*/big")
    with big.open("rb") as file:
        assert file.read(8) == b"begins\0\0"
    assert (big.stat().st_size, big.stat().st_blocks <= 16) == (64 << 30, True)


def test_a_sparse_file_that_no_disk_holds_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="'big' says that it has 2251799813685248 bytes"):
        rootfs.load(
            store, docker_archive(tmp_path / "a.tar", sparse_tar("big", 1 << 51, b"begins")), "sparse"
        )


def test_devices_are_left_out_and_absolute_names_stay_inside(store: Store, tmp_path: Path) -> None:
    made = docker_archive(
        tmp_path / "a.tar", layer(("dev/sda", None, "c"), ("/abs", b"x", "f"), ("l", None, "l:/etc"))
    )
    only = store.rootfs(rootfs.load(store, made)).layers[0]
    assert not (only / "dev/sda").exists()
    assert (only / "abs").read_bytes() == b"x"
    assert (only / "l").readlink() == Path("/etc")


def test_what_is_no_archive_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tar")
    with pytest.raises(BadArchive, match="text"):
        rootfs.load(store, tmp_path / "text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadArchive, match="OCI"):
        rootfs.load(store, tmp_path / "empty")


def test_a_real_base_is_preferred_to_the_hosts(store: Store) -> None:
    with pytest.raises(ImageMissing, match="debian:none"):
        store.image("debian:none")
    on_host = rootfs.host_image(store)
    store.put(Stored("x", on_host.layers, True, host_facts=on_host.host_facts))
    assert store.image("x").host
    store.put(Stored("x"))
    assert not store.image("x").host


def test_an_image_whose_layer_is_gone_is_missing(store: Store) -> None:
    store.put(Stored("x", ("removed",)))
    with pytest.raises(ImageMissing):
        store.image("x")


def test_the_host_layer_keeps_links_and_locks_accounts(store: Store) -> None:
    top = store.rootfs(store.image("host")).layers[0]
    for name in ("bin", "lib"):
        if Path("/", name).is_symlink():
            assert (top / name).readlink() == Path("/", name).readlink()
    assert all(line.split(":")[1] == "*" for line in (top / "etc/shadow").read_text().splitlines())
    assert stat.S_IMODE((top / "tmp").stat().st_mode) == 0o1777
    assert store.image("host").substituted.startswith("host root of ")


def test_a_layer_that_is_not_what_its_digest_says_is_refused(store: rootfs.Store, tmp_path: Path) -> None:
    """Layers are kept by digest and shared: a false one would stand in every other image that names it."""
    real, false = layer(("etc/a", b"real", "f")), layer(("etc/a", b"false", "f"))
    made = docker_archive(tmp_path / "a.tar", false)
    made.write_bytes(
        made.read_bytes().replace(*(hashlib.sha256(each).hexdigest().encode() for each in (false, real)))
    )
    with pytest.raises(rootfs.BadArchive, match="is not the layer"):
        rootfs.load(store, made)
    rootfs.load(store, docker_archive(tmp_path / "b.tar", real))
    (kept,) = store.rootfs(store.image("kit:1")).layers
    assert (kept / "etc/a").read_text() == "real"
