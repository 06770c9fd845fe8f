"""Where candidates come from: `kind:name` → the bytes of one archive, fetched and never run.

    pypi:NAME       the newest source distribution, from the index that pip is configured with
    npm:NAME        the tarball that `npm pack` fetches
    debian:NAME     the upstream archive of a source package, from the archives that apt is configured with
    git:URL         the newest commit, shallow, without submodules
    path:FOLDER     a folder, an archive, or one text file
    url:ADDRESS     one file, or an archive

No step runs anything of the project: no setup.py, no npm scripts, no git hooks or filters.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from env_registry.pipeline.stage import Rejected
from terminal_gym.errors import BadSetting, SandboxError, UnknownName

_NAME = re.compile(
    r"(?:@[a-z0-9~-][\w.~-]*/)?[A-Za-z0-9][\w.+~-]*"
)  # of a package, in any of the three registries
_SDIST = (".tar.gz", ".zip", ".tar.bz2", ".tgz")
_APT = threading.Lock()
_SIMPLE = "application/vnd.pypi.simple.v1+json"  # PEP 691
_OUTAGE = re.compile(  # what npm, apt and git say of a network or an index that does not answer
    r"ENOTFOUND|EAI_AGAIN|ECONN(REFUSED|RESET)|ETIMEDOUT|ERR_SOCKET|code E(429|5\d\d)\b|SELF_SIGNED_CERT"
    r"|[Cc]ould not (resolve|connect)|Temporary failure|[Cc]onnection (timed out|refused|reset)|unreachable"
    r"|Failed to connect|Could not get lock|\b50[0234] "
)
Fetch = Callable[["Source"], "Fetched"]


class IndexUnreachable(SandboxError, ConnectionError):
    """A package index does not answer; the source is asked for again in the next run."""


@dataclass(frozen=True)
class Source:
    """One line of the list."""

    kind: str
    name: str
    folder: Path  # what a relative path is relative to
    limit_bytes: int
    timeout_s: float


@dataclass(frozen=True)
class Fetched:
    """One archive."""

    data: bytes
    version: str


def fetch(spec: str, *, folder: Path, limit_bytes: int, timeout_s: float) -> Fetched:
    """Return the archive of `kind:name`.

    Raises:
        Rejected: "unfetchable", "no-source" or "too-large".
        IndexUnreachable: Nothing answers, or with an error of its own; it may be there another time.
        UnknownName: There is no such kind of source.
    """
    kind, _, name = spec.partition(":")
    if kind not in _KINDS or not name:
        raise UnknownName("kind of source", kind, known=_KINDS, advice="Write kind:name, e.g. pypi:six.")
    if kind in ("pypi", "npm", "debian") and not _NAME.fullmatch(name):
        raise Rejected("unfetchable", f"{name!r} is no package's name")
    return _KINDS[kind](Source(kind, name, folder, limit_bytes, timeout_s))


# ── package registries ──────────────────────────────────────────────────────────────────────────


def _pypi(source: Source) -> Fetched:
    page = json.loads(_download(f"{pip_index()}/{source.name}/", source, accept=_SIMPLE))
    sdists = [
        one for one in page.get("files", []) if one["filename"].endswith(_SDIST) and not one.get("yanked")
    ]
    if not sdists:
        raise Rejected("no-source", f"{source.name} has no source distribution")
    order = {version: at for at, version in enumerate(page.get("versions", []))}
    newest = max(sdists, key=lambda one: (one.get("upload-time") or "", order.get(_version(one), -1)))
    if newest.get("size", 0) > source.limit_bytes:
        raise Rejected("too-large", f"{newest['filename']} has {newest['size']} bytes")
    base = f"{pip_index()}/{source.name}/"
    return Fetched(_download(urllib.parse.urljoin(base, newest["url"]), source), newest["filename"])


def _version(file: Mapping[str, str]) -> str:
    return re.sub(r"(\.tar\.(gz|bz2)|\.zip|\.tgz)$", "", file["filename"]).rpartition("-")[2]


@functools.cache
def pip_index() -> str:
    """Return the package index that pip is configured with, else the default that its help tells.

    Raises:
        BadSetting: pip tells neither.
    """
    pip = [sys.executable, "-m", "pip"]
    config = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"^(?::env:|global|install|download)\.index-url='([^']+)'", config, re.M)
    if not found:
        told = subprocess.run(
            [*pip, "download", "--help"], capture_output=True, text=True, check=False
        ).stdout
        found = re.search(r"--index-url.*?\(default\s+(\S+?)\)", told, re.S)
    if not found:
        raise BadSetting("pip names no package index. Set PIP_INDEX_URL.")
    return found[1].rstrip("/")


def _download(url: str, source: Source, *, accept: str = "*/*") -> bytes:
    request = urllib.request.Request(url, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=source.timeout_s) as answer:
            data: bytes = answer.read(max(source.limit_bytes, 16 << 20) + 1)
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            if error.code == 429 or error.code >= 500:
                raise IndexUnreachable(f"{source.name}: {error}") from None
            raise Rejected("unfetchable", f"{source.name}: {error}") from None
    except ValueError as error:
        raise Rejected("unfetchable", f"{source.name}: {error}") from error
    except OSError as error:
        raise IndexUnreachable(f"{source.name}: the package index does not answer: {error}") from error
    if accept == "*/*" and len(data) > source.limit_bytes:
        raise Rejected("too-large", f"{source.name}: more than {source.limit_bytes} bytes")
    return data


def _npm(source: Source) -> Fetched:
    with tempfile.TemporaryDirectory(prefix="tgym-npm-") as folder:
        _ran(
            ["npm", "pack", source.name, "--ignore-scripts", "--silent", "--pack-destination", folder],
            source,
            folder,
        )
        return _only(Path(folder), "*.tgz", source)


def _debian(source: Source) -> Fetched:
    with tempfile.TemporaryDirectory(prefix="tgym-apt-") as folder:
        with _APT:  # the lists are fetched once, and apt holds a lock over them meanwhile
            known = _apt(source.timeout_s)
        options = [f"-o={key}={value}" for key, value in known.items()]
        argv = ["apt-get", *options, "source", "--download-only", "--tar-only", "--only-source", source.name]
        _ran(argv, source, folder)
        upstream = [
            path for path in Path(folder).iterdir() if re.search(r"(?<!\.debian)\.tar\.\w+$", path.name)
        ]
        if not upstream:
            raise Rejected("no-source", f"{source.name} has no upstream archive")
        return _read(max(upstream, key=lambda path: (".orig." in path.name, path.stat().st_size)), source)


@functools.cache
def _apt(timeout_s: float) -> dict[str, str]:
    """Options that give apt the source packages of its own archives, in folders of their own."""
    place = Path(tempfile.gettempdir()) / f"tgym-apt-{os.getuid()}"
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (place / name).mkdir(parents=True, exist_ok=True)
    etc = Path("/etc/apt")
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]:
        if path.is_file():
            lines = re.findall(r"^deb\s.*$", path.read_text("utf-8"), re.M)
            text = "".join(f"deb-src{line[3:]}\n" for line in lines)
            (place / "parts" / f"{path.stem}.list").write_text(text, "utf-8")
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        text = re.sub(r"^Types:.*$", "Types: deb-src", path.read_text("utf-8"), flags=re.M)
        (place / "parts" / path.name).write_text(text, "utf-8")
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": str(place / "parts"),
        "Dir::State::Lists": str(place / "lists"),
        "Dir::Cache": str(place / "cache"),
        "APT::Sandbox::User": "",
    }
    whole = Source("debian", "the lists", place, 0, timeout_s)
    _ran(["apt-get", *(f"-o={key}={value}" for key, value in options.items()), "update"], whole, str(place))
    return options


# ── repositories and folders ────────────────────────────────────────────────────────────────────


def _git(source: Source) -> Fetched:
    """A bare clone has no work tree, so no hook, filter or link of the repository is ever at work."""
    with tempfile.TemporaryDirectory(prefix="tgym-git-") as folder:
        clone = ["git", "-c", "core.hooksPath=/dev/null", "clone", "--quiet", "--bare", "--depth", "1"]
        _ran([*clone, "--", source.name, "bare"], source, folder)
        bare = Path(folder) / "bare"
        version = _ran(["git", "--git-dir=bare", "rev-parse", "HEAD"], source, folder).strip()
        size = sum(path.stat().st_size for path in bare.rglob("*") if path.is_file())
        if size > source.limit_bytes:
            raise Rejected("too-large", f"the clone has {size} bytes")
        _ran(
            ["git", "--git-dir=bare", "archive", "--prefix=src/", "--output=tree.tar", "HEAD"], source, folder
        )
        return Fetched((Path(folder) / "tree.tar").read_bytes(), version)


def _path(source: Source) -> Fetched:
    path = (source.folder / source.name).expanduser()
    if path.is_file():
        read = _read(path, source)
        return _whole(path.name, read.data) if _is_text(read.data) else read
    if not path.is_dir():
        raise Rejected("unfetchable", f"{path} is neither a folder nor a file")
    made, size = io.BytesIO(), 0
    with tarfile.open(fileobj=made, mode="w", errors="surrogateescape") as tar:
        for here, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if name != ".git")
            for name in sorted([*folders, *files]):
                one = Path(here, name)
                size += one.lstat().st_size if one.is_file() and not one.is_symlink() else 0
                if size > source.limit_bytes:
                    raise Rejected("too-large", f"more than {source.limit_bytes} bytes")
                tar.add(one, f"src/{one.relative_to(path).as_posix()}", recursive=False)
    return Fetched(made.getvalue(), "")


def _ran(argv: list[str], source: Source, folder: str) -> str:
    env = os.environ | {
        "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "http:https:ssh:git:file",
    }  # fmt: skip
    try:
        ran = subprocess.run(
            argv, cwd=folder, env=env, capture_output=True, stdin=subprocess.DEVNULL, timeout=source.timeout_s,
            check=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise BadSetting(f"{source.kind} sources need {argv[0]}, which is not installed.") from error
    except subprocess.TimeoutExpired as error:
        found = f"{source.name}: not there after {source.timeout_s:.0f} s"
        if source.kind == "git":  # it may be as large as it likes
            raise Rejected("unfetchable", found) from error
        raise IndexUnreachable(found) from error
    except subprocess.CalledProcessError as error:
        found = f"{source.name}: {error.stderr.decode(errors='replace')[-500:].strip()}"
        if _OUTAGE.search(found):
            raise IndexUnreachable(found) from error
        raise Rejected("unfetchable", found) from error
    return ran.stdout.decode(errors="replace")


def _only(folder: Path, pattern: str, source: Source) -> Fetched:
    found = sorted(folder.glob(pattern))
    if not found:
        raise Rejected("no-source", f"{source.name}: nothing was fetched")
    return _read(found[0], source)


def _read(path: Path, source: Source) -> Fetched:
    size = path.stat().st_size
    if size > source.limit_bytes:
        raise Rejected("too-large", f"{path.name} has {size} bytes")
    return Fetched(path.read_bytes(), path.name)


def _url(source: Source) -> Fetched:
    address = urllib.parse.urlsplit(source.name)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise Rejected("unfetchable", f"{source.name!r} is no address of the web")
    data = _download(source.name, source)
    if len(data) > source.limit_bytes:
        raise Rejected("too-large", f"more than {source.limit_bytes} bytes")
    return _whole(PurePosixPath(address.path).name or "page.txt", data)


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _whole(name: str, data: bytes) -> Fetched:
    """An archive as it is; any other file as an archive of that file alone."""
    if data.startswith(_ARCHIVES) or data[257:262] == b"ustar":
        return Fetched(data, name)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", errors="surrogateescape") as tar:
        entry = tarfile.TarInfo(f"src/{name}")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return Fetched(made.getvalue(), name)


_ARCHIVES = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_KINDS: Mapping[str, Fetch] = {
    "pypi": _pypi,
    "npm": _npm,
    "debian": _debian,
    "git": _git,
    "path": _path,
    "url": _url,
}
