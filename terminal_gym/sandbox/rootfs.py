"""Images of the embedded runtime: a name, a configuration, and layers, each a folder that overlays share.

They come from a docker-archive or an OCI layout (`load`), from a recipe (`recipe.py`), or are this machine itself:
the image `host` is a thin layer of ours over the machine's own /usr, /etc and /opt. That layer hides what is nobody's
business: home folders, /root, /run, /var, keys and password hashes, and every top-level folder it does not know.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import urllib.parse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from terminal_gym.errors import BadSetting, ImageMissing
from terminal_gym.sandbox import keeper
from terminal_gym.sandbox.base import Image

HOST = "host"
_LARGEST_FILE = 1 << 40  # bytes; of a sparse file, whose size is a claim
_OVERLAID = ("usr", "etc", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_BOUND = ("nix", "gnu")  # whole distributions live there, read-only by design
_FRESH = (
    {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777}
    | dict.fromkeys(
        ("home", "run", "srv", "mnt", "media", "proc", "dev", "sys", "tg", "var/lib", "var/log", "var/cache"),
        0o755,
    )
    | dict.fromkeys(("var/spool", "var/mail", "var/lib/dpkg", "run/lock"), 0o755)
)
_FRESH_LINKS = {"var/run": "/run", "var/lock": "/run/lock"}
# Whiteouts: gone from the sandbox's /etc. Keys, password hashes, credentials, and what names this machine.
_HIDDEN = """
    shadow- gshadow- passwd- group- subuid subuid- subgid subgid- security/opasswd .pwd.lock ssh sudoers
    sudoers.d ssl/private krb5.keytab docker containerd containers kubernetes rancher cni cloud
    machine-id hostid letsencrypt wireguard openvpn ipsec.secrets ipsec.d ppp NetworkManager
    wpa_supplicant iwd samba cups netrc boto.cfg aws azure google gcloud npmrc pip.conf environment
    environment.d credstore credstore.encrypted fstab crypttab exports mtab apt/auth.conf
    apt/auth.conf.d ansible salt puppet chef vault.d consul.d nomad.d postgresql mysql redis rabbitmq
    exim4 postfix msmtprc mail bacula libvirt lxc lxd systemd/network gitconfig tinyproxy squid nginx
    apache2 haproxy profile.d/proxy.sh
""".split()  # noqa: SIM905
_KEPT_SHAPE = ("usr/local", "etc")  # folders made anew, so that an ordinary user may write to them


@dataclass(frozen=True)
class Stored:
    """One image in the store."""

    name: str
    layers: tuple[str, ...] = ()  # names of layer folders, top first
    host: bool = False  # the lowest layers are this machine's own folders
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    substituted: str = ""
    host_facts: str = ""  # hash of what the machine's own folders held, as far as its package list tells

    @property
    def digest(self) -> str:
        content = {key: value for key, value in asdict(self).items() if key != "name"}
        return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def described(self) -> Image:
        """Return it as the runtime's callers see it."""
        return Image(self.name, self.digest, dict(self.env), self.workdir, self.user, self.substituted)


class Store:
    """A folder of layers and image descriptions; many processes may use it at once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.layers = folder / "layers"

    def image(self, name: str) -> Stored:
        """Return the image of that name; one on a real base is preferred to one on the host's root.

        Raises:
            ImageMissing: It holds neither.
        """
        if name == HOST:
            return host_image(self)
        for real in (True, False):
            if (found := self.find(name, host=not real)) is not None:
                return found
        advice = "Make it with `tgym images build TASK --runtime namespace`, or load a docker-archive."
        raise ImageMissing(f"the namespace runtime holds no image named {name!r}. {advice}")

    def find(self, name: str, *, host: bool) -> Stored | None:
        """Return the image of that name and kind, None where it or one of its layers is not there."""
        try:
            told = json.loads(self._file(name, host=host).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        stored = Stored(**told | {"layers": tuple(told["layers"])})
        whole = all((self.layers / layer).is_dir() for layer in stored.layers)
        return stored if whole and (not host or stored.host_facts == _host_facts()) else None

    def layers_of(self, name: str) -> tuple[Path, ...]:
        """Return the layers of every image of that name."""
        found = (self.find(name, host=host) for host in (False, True))
        return tuple(self.layers / layer for stored in found if stored is not None for layer in stored.layers)

    def own_layers_of(self, name: str) -> set[Path]:
        """Return the layers that no image of another name stands on."""
        layers = set(self.layers_of(name))
        mine = {self._file(name, host=host) for host in (False, True)}
        for file in set((self.folder / "images").glob("*.json")) - mine:
            with contextlib.suppress(OSError, ValueError):
                layers -= {self.layers / layer for layer in json.loads(file.read_text("utf-8"))["layers"]}
        return layers

    def remove(self, name: str) -> None:
        """Remove the images of that name, and the layers that no other image stands on."""
        layers = self.own_layers_of(name)
        for host in (False, True):
            self._file(name, host=host).unlink(missing_ok=True)
        for layer in layers:
            gone = layer.with_name(f".draft-{layer.name}-removed")
            with contextlib.suppress(OSError):  # at once out of the way: nobody meets half a layer
                layer.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def put(self, stored: Stored) -> Stored:
        """Write the description, at once or not at all."""
        file = self._file(stored.name, host=stored.host)
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as draft:
            json.dump(asdict(stored), draft)
        Path(draft.name).replace(file)
        return stored

    def _file(self, name: str, *, host: bool) -> Path:
        quoted = urllib.parse.quote(name, safe="")
        short = quoted if len(quoted) < 200 else hashlib.sha256(name.encode()).hexdigest()
        return self.folder / "images" / f"{short}{'@host' if host else ''}.json"

    def rootfs(self, stored: Stored) -> keeper.Rootfs:
        """Return what an overlay of that image stands on."""
        layers = tuple(self.layers / name for name in stored.layers) or (self.empty_layer(),)
        if not stored.host:
            return keeper.Rootfs(layers)
        folders = [Path("/", name) for name in _OVERLAID if _is_folder(Path("/", name))]
        over = tuple(path for path in folders if os.geteuid() == 0 or not _has_mounts_below(path))
        return keeper.Rootfs(layers, over, (*(p for p in folders if p not in over), *_bound()))

    def empty_layer(self) -> Path:
        """Return a layer without anything in it."""
        empty = self.layers / "empty"
        empty.mkdir(parents=True, exist_ok=True)
        return empty

    @contextlib.contextmanager
    def draft(self, key: str) -> Iterator[Path | None]:
        """Yield an empty folder that becomes the layer `key` where the block succeeds; None where it is there."""
        final = self.layers / key
        if final.is_dir():
            yield None
            return
        self.layers.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.layers))
        made = work / "layer"
        made.mkdir(mode=0o755)
        try:
            yield made
            with contextlib.suppress(OSError):  # another process was faster; both made the same
                made.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def default_folder() -> Path:
    """Return the folder that holds this user's images."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "terminal-gym" / ("images" if os.geteuid() == 0 else f"images-{os.geteuid()}")


# ── this machine's own root ─────────────────────────────────────────────────────────────────────


def host_image(store: Store) -> Stored:
    """Return the image `host`; its layer is made anew where the machine's users or folders have changed."""
    key = "host" + _host_facts()[:20]
    with store.draft(key) as layer:
        if layer is not None:
            _fill_host_layer(layer)
    return Stored(HOST, (key,), True, substituted=f"host root of {distribution()}", host_facts=_host_facts())


def distribution() -> str:
    """Return what this machine calls itself."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "an unknown distribution"
    fields = dict(line.partition("=")[::2] for line in lines)
    return fields.get("PRETTY_NAME", fields.get("ID", "Linux")).strip('"')


@functools.cache
def _host_facts() -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name in ("os-release", "passwd", "group"):
        with contextlib.suppress(OSError):
            digest.update(Path("/etc", name).read_bytes())
    for packages in ("/var/lib/dpkg/status", "/var/lib/rpm/rpmdb.sqlite", "/lib/apk/db/installed"):
        with contextlib.suppress(OSError):
            digest.update(f"{packages} {Path(packages).stat().st_mtime_ns}".encode())
    return digest.hexdigest()


def _fill_host_layer(layer: Path) -> None:
    for name, mode in _FRESH.items():
        (layer / name).mkdir(parents=True, exist_ok=True)
        (layer / name).chmod(mode)
    for name, leads_to in _FRESH_LINKS.items():
        (layer / name).symlink_to(leads_to)
    for name in (*_OVERLAID, *_BOUND):
        source = Path("/", name)
        if source.is_symlink():
            (layer / name).symlink_to(source.readlink())
        elif source.is_dir():
            (layer / name).mkdir(exist_ok=True)
    if os.geteuid() != 0:
        for name in _KEPT_SHAPE:
            _copy_shape(Path("/", name), layer / name)
    for hidden in _HIDDEN:
        target, source = layer / "etc" / hidden, Path("/etc", hidden)
        if source.is_symlink() or source.exists():
            if target.is_dir():
                shutil.rmtree(target)
            _copy_shape(source.parent, target.parent, deep=False)
            whiteout(target)
    _write_accounts(layer / "etc")


def _copy_shape(source: Path, target: Path, *, deep: bool = True) -> None:
    """Make the folders of `source` below `target`, without their files, with their modes."""
    for place, folders, _ in os.walk(source):
        made = target / Path(place).relative_to(source)
        made.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            made.chmod(stat.S_IMODE(Path(place).stat().st_mode))
        folders[:] = [name for name in folders if deep and os.access(Path(place, name), os.R_OK | os.X_OK)]


def _write_accounts(etc: Path) -> None:
    """The system's accounts without its people, and password files that let nobody in."""
    passwd = [line for line in Path("/etc/passwd").read_text("utf-8").splitlines() if _is_system(line)]
    group = [line for line in Path("/etc/group").read_text("utf-8").splitlines() if _is_system(line)]
    nobody_in = [":".join([*line.split(":")[:3], ""]) for line in group]
    shadow = [f"{line.split(':')[0]}:*:19000:0:99999:7:::" for line in passwd]
    for name, lines, mode in (
        ("passwd", passwd, 0o644),
        ("group", nobody_in, 0o644),
        ("shadow", shadow, 0o640),
        ("gshadow", [f"{line.split(':')[0]}:*::" for line in group], 0o640),
        ("environment", [], 0o644),
    ):
        with contextlib.suppress(FileNotFoundError):
            (etc / name).unlink()
        (etc / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (etc / name).chmod(mode)


def _is_system(line: str) -> bool:
    fields = line.split(":")
    return len(fields) > 3 and fields[2].isdecimal() and (int(fields[2]) < 1000 or fields[2] == "65534")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _bound() -> tuple[Path, ...]:
    return tuple(Path("/", name) for name in _BOUND if _is_folder(Path("/", name)))


def _has_mounts_below(path: Path) -> bool:
    with Path("/proc/self/mounts").open(encoding="utf-8", errors="replace") as mounts:
        return any(line.split(" ")[1].startswith(f"{path}/") for line in mounts)


# ── archives ────────────────────────────────────────────────────────────────────────────────────


class BadArchive(BadSetting):
    """An image archive cannot be read, or wants to write outside of its layer."""


def load(store: Store, path: Path, name: str | None = None) -> Stored:
    """Take an image from a docker-archive or OCI layout, a tar or a folder, into the store.

    Args:
        name: What to call it; None: the name that the archive gives.

    Raises:
        BadArchive: It is not one, is compressed with zstd, or is hostile.

    Source: Docker Image Specification v1.2; OCI Image Format 1.0.
    """
    with _opened(path) as source:
        try:
            config, blobs, tag = _manifest(source)
            diff_ids, settings = config["rootfs"]["diff_ids"], config.get("config") or {}
            pairs = list(zip(map(_checked, diff_ids), blobs, strict=True))
            env = dict(entry.partition("=")[::2] for entry in settings.get("Env") or [])
            substituted = (settings.get("Labels") or {}).get("terminal-gym.substituted", "")
            workdir, user = settings.get("WorkingDir") or "/", settings.get("User") or ""
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
            if isinstance(error, BadArchive):
                raise
            raise BadArchive(f"{path} does not describe an image: {error!r}") from error
        called = name or tag
        if not called:
            raise BadArchive(f"{path} gives the image no name. Say how to call it.")
        layers = []
        for diff_id, blob in pairs:
            key = "d" + diff_id.rpartition(":")[2][:23]
            with store.draft(key) as layer:
                if layer is not None:
                    with source.open(blob) as stream:
                        if unpack_layer(stream, layer) != diff_id:
                            raise BadArchive(
                                f"{path}: {blob} is not the layer {diff_id}. Save the image again."
                            )
            layers.append(key)
    return store.put(
        Stored(called, tuple(reversed(layers)), env=env, workdir=workdir, user=user, substituted=substituted)
    )


class _Source:
    """Files of an archive by name: a folder, or a tar that is read in place."""

    def __init__(self, folder: Path | None, tar: tarfile.TarFile | None):
        self._folder, self._tar = folder, tar

    def open(self, name: str) -> IO[bytes]:
        try:
            if self._folder is not None:
                return (self._folder / name).open("rb")
            assert self._tar is not None
            stream = self._tar.extractfile(name)
        except (OSError, KeyError) as error:
            raise BadArchive(f"the image archive has no {name}") from error
        if stream is None:
            raise BadArchive(f"{name} in the image archive is not a file")
        return stream

    def json(self, name: str) -> Any:
        with self.open(name) as stream:
            return json.loads(stream.read(16 << 20))

    def has(self, name: str) -> bool:
        if self._folder is not None:
            return (self._folder / name).is_file()
        assert self._tar is not None
        return name in self._tar.getnames()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    if path.is_dir():
        yield _Source(path, None)
        return
    try:
        tar = tarfile.open(path)  # noqa: SIM115
    except (OSError, tarfile.TarError) as error:
        raise BadArchive(f"{path} is not an image archive: {error}") from error
    with tar:
        yield _Source(None, tar)


def _manifest(source: _Source) -> tuple[dict[str, Any], list[str], str]:
    """Return (configuration, names of the layers' blobs, image name)."""
    if source.has("manifest.json"):
        told = source.json("manifest.json")[0]
        return source.json(told["Config"]), told["Layers"], (told.get("RepoTags") or [""])[0]
    if not source.has("index.json"):
        raise BadArchive("the archive has neither manifest.json (docker save) nor index.json (OCI layout)")
    entry = source.json("index.json")["manifests"][0]
    annotations = entry.get("annotations") or {}
    tag = annotations.get("io.containerd.image.name") or annotations.get(
        "org.opencontainers.image.ref.name", ""
    )
    manifest = source.json(_blob(entry["digest"]))
    if "manifests" in manifest:  # an index of platforms
        manifest = source.json(_blob(manifest["manifests"][0]["digest"]))
    return (
        source.json(_blob(manifest["config"]["digest"])),
        [_blob(x["digest"]) for x in manifest["layers"]],
        tag,
    )


def _checked(diff_id: object) -> str:
    """A layer is kept under this name, for every image that names it: it must be one, and what it is of."""
    if not isinstance(diff_id, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", diff_id):
        raise BadArchive(f"{diff_id!r:.100} is not the digest of a layer")
    return diff_id


def _blob(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if not (algorithm.isalnum() and value.isalnum()):
        raise BadArchive(f"{digest!r} is not a digest")
    return f"blobs/{algorithm}/{value}"


class _Hashing(io.RawIOBase):
    """A stream that remembers the hash of what was read from it."""

    def __init__(self, stream: IO[bytes]):
        self._stream, self.hash = stream, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.hash.update(data)
        return data


def unpack_layer(stream: IO[bytes], root: Path) -> str:
    """Unpack one layer's tar into the empty folder `root`; deletions become overlay whiteouts.

    Returns the digest of the tar, uncompressed: its diff id.

    No link is followed, no device is made, nothing is written outside of `root`.

    Raises:
        BadArchive: An entry wants just that, or the tar cannot be read.
    """
    modes: list[tuple[Path, int]] = []
    try:
        read = _Hashing(_decompressed(stream))
        with tarfile.open(fileobj=read, mode="r|") as tar:
            for entry in tar:
                _unpack_entry(tar, entry, root, modes)
        while read.read(1 << 20):
            pass  # what follows the last entry belongs to the digest
    except (tarfile.TarError, OverflowError, RecursionError, ValueError) as error:
        if isinstance(error, BadArchive):
            raise
        raise BadArchive(f"a layer cannot be read (zstd is not known here): {error}") from error
    for path, mode in reversed(modes):
        path.chmod(mode)
    return f"sha256:{read.hash.hexdigest()}"


def _decompressed(stream: IO[bytes]) -> IO[bytes]:
    kinds = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
    head = stream.read(6)
    stream.seek(0)
    opener = next((opener for magic, opener in kinds if head.startswith(magic)), None)
    return stream if opener is None else cast(IO[bytes], opener(stream, "rb"))


def _unpack_entry(
    tar: tarfile.TarFile, entry: tarfile.TarInfo, root: Path, modes: list[tuple[Path, int]]
) -> None:
    path = _inside(root, entry.name)
    if path == root:
        modes.append((root, entry.mode & 0o7777))
        return
    if path.name == ".wh..wh..opq":
        os.setxattr(path.parent, opaque_attribute(), b"y")
        return
    if path.name.startswith(".wh."):
        whiteout(path.with_name(path.name.removeprefix(".wh.")))
        return
    if path.is_symlink() or (path.exists() and not (entry.isdir() and path.is_dir())):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if entry.isdir():
        path.mkdir(exist_ok=True)
        modes.append((path, entry.mode & 0o7777))
    elif entry.isfile():
        _write(tar, entry, path)
    elif entry.issym():
        path.symlink_to(entry.linkname)
    elif entry.islnk():
        os.link(_inside(root, entry.linkname), path, follow_symlinks=False)
        return
    elif entry.isfifo():
        os.mkfifo(path)
    else:
        return  # a device: bubblewrap's /dev has those that a program needs
    if os.geteuid() == 0:
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if not entry.issym() and not entry.isdir():
        path.chmod(entry.mode & 0o7777)
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    """Write a regular file; the holes of a sparse one stay holes, or a few bytes would fill the disk with zeros."""
    source = tar.extractfile(entry)
    assert source is not None
    with path.open("xb") as target:
        if not entry.issparse():
            shutil.copyfileobj(source, target, 1 << 20)
            return
        if entry.size > _LARGEST_FILE:
            raise BadArchive(f"{entry.name!r} says that it has {entry.size} bytes")
        raw = cast(Any, source).raw  # the buffer would not seek in a stream; this does, forward
        for offset, size in cast("list[tuple[int, int]]", entry.sparse):
            target.seek(offset)
            raw.seek(offset)
            target.write(raw.read(size) or b"")
        target.truncate(entry.size)


def _inside(root: Path, name: str) -> Path:
    """Return where `name` lies below `root`; parents are made, and must be folders, never links."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadArchive(f"{name!r} points outside of its layer")
    path = root
    for part in parts[:-1]:
        path = path / part
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise BadArchive(f"{name!r} lies below {part!r}, which is not a folder in its layer")
        path.mkdir(exist_ok=True)
    return path / parts[-1] if parts else root


def opaque_attribute() -> str:
    """Return the name of the attribute that makes a folder of a layer hide those below it."""
    return "trusted.overlay.opaque" if os.geteuid() == 0 else "user.overlay.opaque"


def whiteout(path: Path) -> None:
    """Make `path` the mark of an overlay that nothing is there; an ordinary user may do so since Linux 5.8."""
    if path.is_symlink() or path.exists():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))
