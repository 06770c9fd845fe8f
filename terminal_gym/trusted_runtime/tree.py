"""The trusted tree: what is mounted read-only at `/tg` in every sandbox, and where this machine keeps it.

In it lie an interpreter with its own loader and libraries, the standard library, pytest, and the guest programs.
PID 1 of every sandbox comes from it, so an image without Python, with a poisoned one, or `FROM scratch` is driven
and judged alike, also after the agent has removed `/usr`, `/lib` and `/etc`.

Trusted: this machine's interpreter, C library and pytest, from which the tree is made; the kernel; whoever may
write to the user's cache folder. Kept true by `test_build.py` under a system call trace: no file outside `/tg` is
mapped, none outside `/tg`, /proc, /dev and the judge's own folders is opened, whatever the image put into
ld.so.preload, ld.so.cache, nsswitch.conf, openssl.cnf, gconv or locale files.

Not promised: nothing here stops a kernel exploit. Lookups that a *test* makes still read the image's passwd and
hosts, as data; its own local time is UTC. A program of the image that a test runs is the image's program, with the
image's loader. There is no TLS in the tree where OpenSSL is a separate library (`ssl` and `_hashlib` are left out).
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from terminal_gym.trusted_runtime import build

GUEST = build.GUEST  # where a sandbox sees the tree
INIT_ARGV = (f"{GUEST}/bin/python3", "-I", "-S", "-B", "-X", "utf8", f"{GUEST}/guest/init.py")
INIT_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",  # any other value opens the image's locale and gconv files, which name shared objects
    "OPENSSL_CONF": "/dev/null",
}
_HASH_FILE = "tree.sha256"
_UNUSED_S = 30 * 86_400  # a tree that nobody has asked for in so long is removed at the next build


@dataclass(frozen=True)
class TrustedTree:
    """A finished tree on this machine."""

    path: Path  # bind this to GUEST, read-only
    hash: str  # sha256 over names, modes and contents; every verdict carries it


def empty_beside(tree: TrustedTree) -> Path:
    """Return an empty folder next to the tree: the second layer that an overlay wants."""
    folder = tree.path.with_name(f"{tree.path.name}.empty")
    folder.mkdir(exist_ok=True)
    return folder


@functools.cache
def trusted_tree() -> TrustedTree:
    """Return this machine's tree; the first call after an upgrade builds it (seconds), later ones look it up.

    Safe to call from many processes at once: one builds, the others wait.

    Raises:
        RuntimeUnavailable: The running interpreter cannot be made self-contained; the message says why.
    """
    folder = cache_folder()
    path = folder / _key()
    if not (path / _HASH_FILE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".lock"):
            if not (path / _HASH_FILE).is_file():
                _build_at(path)
    with suppress(OSError):  # the cache may be read-only, for whom it is only to be used
        os.utime(path / _HASH_FILE)
    return TrustedTree(path, (path / _HASH_FILE).read_text(encoding="ascii").strip())


def cache_folder() -> Path:
    """Return the folder that holds this user's trees."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "terminal-gym" / "trusted"


def _build_at(path: Path) -> None:
    _sweep(path.parent)
    draft = Path(tempfile.mkdtemp(prefix=".build-", dir=path.parent))
    try:
        build.build(draft)
        (draft / _HASH_FILE).write_text(tree_hash(draft) + "\n", encoding="ascii")
        (draft / _HASH_FILE).chmod(0o644)
        shutil.rmtree(path, ignore_errors=True)
        draft.rename(path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _sweep(folder: Path) -> None:
    """Remove drafts (we hold the lock, so their builders are dead) and trees long out of use."""
    for path in folder.iterdir():
        mark = path / _HASH_FILE
        if path.name.startswith(".build-") or (
            mark.is_file() and time.time() - mark.stat().st_mtime > _UNUSED_S
        ):
            shutil.rmtree(path, ignore_errors=True)


def tree_hash(root: Path) -> str:
    """Return the sha256 over every file's name, executable bit and content, in name order."""
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p != root / _HASH_FILE):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root)}\0{path.stat().st_mode & 0o100}\0{content}\n".encode())
    return digest.hexdigest()


def _key() -> str:
    """Name of the tree that fits the running interpreter, its C library, pytest, our recipe and guest programs."""
    facts: list[object] = [sys.version, [importlib.metadata.version(name) for name in build.DISTRIBUTIONS]]
    for path in build.made_from():
        status = path.stat()
        facts.append([str(path), status.st_size, status.st_mtime_ns])
    for path in (Path(build.__file__), *build.guest_files()):
        facts.append([path.name, hashlib.sha256(path.read_bytes()).hexdigest()])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
