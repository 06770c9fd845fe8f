"""A keeper: one tiny process whose namespaces hold a sandbox's file system, and whose end is the end of everything.

It sits in a mount and a process namespace of its own (an ordinary user: also a user namespace, with that user as
root). There it mounts a tmpfs of limited size and, on it, the overlay that is the sandbox's root. Nothing is mounted
where the host can see it. It reads what only we hold: when we die, even by SIGKILL, it reads the end, exits as PID 1 of
its process namespace, and the kernel kills every process of the sandbox and drops the mounts. Where there is a nursery
it comes from there, and bears what runs in the sandbox; elsewhere it is a shell, whose namespaces others enter.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terminal_gym.errors import SandboxLost, StartFailed
from terminal_gym.sandbox import nursery, seccomp

ROOT_UPPER = "_"  # folder of what was written outside of the folders that have an overlay of their own
PRESET = ("etc/hosts", "etc/hostname", "etc/resolv.conf")  # written by us, so no change of the agent's
_HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost\n"
_START_S, _FIND_S = 20.0, 60.0
_COPY_S = 120.0
# Options of GNU's own: another program would leave the attributes out and say nothing.
_COPY = ("cp", "--archive", "--sparse=always", "--reflink=auto", "--no-target-directory")
_BARE_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "LIBMOUNT_FORCE_MOUNT2": "always"}


@dataclass(frozen=True)
class Rootfs:
    """What an overlay stands on."""

    layers: tuple[Path, ...]  # top first; all in one folder
    host: tuple[Path, ...] = ()  # folders of this machine, each the lowest layer below its own name
    bound: tuple[Path, ...] = ()  # folders of this machine, shown read-only as they are
    preset: bool = True  # whether a new one gets its hosts, hostname and resolv.conf


class Keeper:
    """The process; `close` ends it and all that ran in its namespaces."""

    def __init__(
        self,
        folder: Path,
        rootfs: Rootfs,
        *,
        size_mb: int | None,
        network: bool = False,
        users_of: Keeper | None = None,
        begin_with: Path | None = None,
        by_nursery: bool = False,
    ):
        """Mount the root at `folder`/m, seen in the keeper's namespaces only.

        Args:
            folder: An empty folder of ours.
            size_mb: Size of the tmpfs; None: what is written goes into `folder` itself, without a limit.
            network: Give it this machine's resolv.conf.
            users_of: Share that keeper's user namespace, to be able to share its network as well.
            by_nursery: Have it, and what runs in the sandbox, borne by the nursery.
            begin_with: What `copy_written` of another keeper on the same rootfs made; it is copied, not changed.
        """
        start_s = _START_S if begin_with is None else _START_S + _COPY_S
        self.base = folder / "m"
        self.base.mkdir()
        self.filter = seccomp.write(folder)
        plan = _Plan(self.base, rootfs, size_mb, network, begin_with)
        self._held: _Shell | nursery.Keeper
        if by_nursery:
            self._held = nursery.nursery().keep(plan.wanted(), timeout_s=start_s)
        else:
            self._held = _Shell(plan, users_of, start_s)
        self.pid = self._held.pid

    @property
    def bears(self) -> bool:
        """Whether `bear` can be asked."""
        return isinstance(self._held, nursery.Keeper)

    def bear(self, want: dict[str, Any], fds: Sequence[int]) -> nursery.Born:
        """Start a process in the sandbox; see `nursery.Keeper.bear`."""
        assert isinstance(self._held, nursery.Keeper)
        return self._held.bear(want, fds)

    def enter(self, *, network_of: int | None = None) -> list[str]:
        """Return the start of a command line that runs in the keeper's namespaces."""
        net = [f"--net=/proc/{network_of}/ns/net"] if network_of is not None else []
        return ["nsenter", "--target", str(self.pid), *users(), *net, "--mount", "--pid", "--wd=/"]

    def written(self) -> Iterator[tuple[str, int]]:
        """Yield (path without its first slash, apparent size) of what was written, changed or deleted.

        Raises:
            SandboxLost: It could not be listed; `find` (findutils) does it, since it takes any depth of folders.
        """
        look = ["find", "-P", f"{self.base}/u", "-mindepth", "2", "-printf", "%y%s %P\\0"]
        try:
            ran = subprocess.run(
                ["nsenter", "--target", str(self.pid), *users(), "--mount", *look],
                capture_output=True,
                env=_BARE_ENV,
                timeout=_FIND_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SandboxLost(f"what was written cannot be listed in {_FIND_S:g} s") from error
        if ran.returncode != 0 and not ran.stdout:
            said = ran.stderr[-500:].decode(errors="replace")
            raise SandboxLost(f"what was written cannot be listed: {said}")
        for row in ran.stdout.split(b"\0")[:-1]:
            size, _, name = row.partition(b" ")
            path = os.fsdecode(name).removeprefix(f"{ROOT_UPPER}/")
            if path not in PRESET and path != "etc":
                yield path, int(size[1:]) if size[:1] == b"f" else 0

    def copy_written(self, to: Path) -> None:
        """Copy what was written, changed or deleted into `to`, a path where nothing is yet.

        With modes, owners, times, hard links, holes, special files, and the overlay's own marks: character devices 0:0
        for what was deleted, attributes for folders that hide those below.

        Raises:
            StartFailed: It could not be copied: no room, files that come and go, or a `cp` that is not GNU's.
        """
        enter = ["nsenter", "--target", str(self.pid), *users(), "--mount"]
        try:
            ran = subprocess.run(
                [*enter, *_COPY, f"{self.base}/u", str(to)],
                capture_output=True,
                env=_BARE_ENV,
                timeout=_COPY_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StartFailed(f"what was written to the sandbox was not copied within {_COPY_S} s") from error
        if ran.returncode != 0:
            why = ran.stderr[-1000:].decode(errors="replace").strip()
            raise StartFailed(f"what was written to the sandbox cannot be copied: {why or 'no reason given'}")

    def close(self) -> None:
        """End it, and wait until all that ran in its namespaces is gone. Safe to call again."""
        self._held.close()


@dataclass(frozen=True)
class _Plan:
    """What is to be mounted where."""

    base: Path
    rootfs: Rootfs
    size_mb: int | None
    network: bool
    begin_with: Path | None

    @property
    def is_preset(self) -> bool:
        """Whether we write into its /etc."""
        return self.rootfs.preset and self.begin_with is None

    @property
    def folders(self) -> list[str]:
        """The folders to make."""
        names = [ROOT_UPPER, *(path.name for path in self.rootfs.host)]
        upper = [f"{self.base}/{kind}/{name}" for name in names for kind in "uw"]
        return [f"{self.base}/r", *upper, *([self.etc] if self.is_preset else [])]

    @property
    def etc(self) -> str:
        """Where /etc is written to."""
        own = any(path.name == "etc" for path in self.rootfs.host)
        return f"{self.base}/u/etc" if own else f"{self.base}/u/{ROOT_UPPER}/etc"

    @property
    def copy(self) -> list[str]:
        """The command that brings what a snapshot kept, [] where there is none."""
        return [*_COPY, str(self.begin_with), f"{self.base}/u"] if self.begin_with else []

    @property
    def overlays(self) -> list[tuple[str, str]]:
        """(where, options) of the overlays, top folder first; layers are named relative to their own folder."""
        xattr, rootfs = "" if os.geteuid() == 0 else "userxattr,", self.rootfs
        found = [(ROOT_UPPER, "", [path.name for path in rootfs.layers])]
        for path in rootfs.host:
            lower = [
                f"{layer.name}/{path.name}" for layer in rootfs.layers if _is_plain_folder(layer / path.name)
            ]
            found.append((path.name, f"/{path.name}", [*lower, str(path)]))
        return [
            (
                f"{self.base}/r{target}",
                f"{xattr}lowerdir={':'.join(lower)},"
                f"upperdir={self.base}/u/{name},workdir={self.base}/w/{name}",
            )
            for name, target, lower in found
        ]

    def wanted(self) -> dict[str, Any]:
        """Return what the nursery is asked for."""
        files = {f"{self.etc}/hosts": _HOSTS, f"{self.etc}/hostname": "sandbox\n"} if self.is_preset else {}
        if self.network and self.is_preset:
            with contextlib.suppress(OSError):
                files[f"{self.etc}/resolv.conf"] = Path("/etc/resolv.conf").read_text("utf-8")
        bound = [[str(path), f"{self.base}/r{path}", "", ""] for path in self.rootfs.bound]
        return {
            "base": str(self.base),
            "size_mb": self.size_mb,
            "copy": self.copy,
            "folders": self.folders,
            "files": files,
            "cwd": str(self.rootfs.layers[0].parent),
            "mounts": [*(["tgym", at, "overlay", options] for at, options in self.overlays), *bound],
        }

    def script(self) -> str:
        """Return what a shell runs: mounts, one line with its process id, then the wait for the end of its input."""
        at, etc = shlex.quote(str(self.base)), shlex.quote(self.etc)
        lines = ["set -e", "umask 022"]
        if self.size_mb is not None:
            lines.append(f"mount -n -t tmpfs -o size={self.size_mb}m,mode=755 tgym {at}")
        if self.copy:
            lines.append(shlex.join(self.copy))
        lines.append(f"mkdir -p {shlex.join(self.folders)}")
        if self.is_preset:
            lines += [f"printf %s {shlex.quote(_HOSTS)} >{etc}/hosts", f"echo sandbox >{etc}/hostname"]
            if self.network:
                lines.append(f"cat /etc/resolv.conf >{etc}/resolv.conf || true")
        # One process for all of them: each `mount` costs 1.5 ms.
        lines.append(f"mount -n -a -T {shlex.quote(str(self.base.parent / 'fstab'))}")
        # bubblewrap looks its child up in /proc, which has to show the process ids of this namespace then.
        lines += ["read self rest </proc/self/stat", "mount -n -t proc proc /proc"]
        lines += ['echo "$self"', "read forever || true"]
        return "\n".join(lines)

    def fstab(self) -> str:
        """Return the mounts in the words of fstab(5)."""
        rows = [f"tgym {_escaped(at)} overlay {_escaped(options)} 0 0" for at, options in self.overlays]
        rows += [f"{path} {_escaped(f'{self.base}/r{path}')} none rbind,ro 0 0" for path in self.rootfs.bound]
        return "\n".join([*rows, ""])


class _Shell:
    """A keeper that is a shell; it reads a pipe to whose end we hold."""

    def __init__(self, plan: _Plan, users_of: Keeper | None, start_s: float):
        self._start_s = start_s
        folder = plan.base.parent
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        if os.geteuid() != 0:
            argv = [*_enter_users(users_of), *argv] if users_of else [*argv, "--user", "--map-root-user"]
        (folder / "fstab").write_text(plan.fstab(), encoding="utf-8")
        self._errors = (folder / "errors").open("w+b")
        self._process = subprocess.Popen(
            [*argv, "sh", "-c", plan.script()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=plan.rootfs.layers[
                0
            ].parent,  # where layers are named from: mount options have a length limit
            env=_BARE_ENV,
            start_new_session=True,
        )
        try:
            self.pid = self._await_ready()
        except BaseException:
            self.close()
            raise

    def _await_ready(self) -> int:
        assert self._process.stdout is not None
        fd, said, until = self._process.stdout.fileno(), b"", time.monotonic() + self._start_s
        while not said.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not nursery.is_readable(fd, left):
                raise StartFailed(f"the sandbox's file system was not mounted within {self._start_s} s")
            if not (chunk := os.read(fd, 100)):
                self._errors.seek(0)
                why = self._errors.read(2000).decode(errors="replace").strip()
                raise StartFailed(f"the sandbox's file system cannot be mounted: {why or 'no reason given'}")
            said += chunk
        return int(said)

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._errors.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def users() -> list[str]:
    """Arguments that make nsenter take the user namespace as well, for an ordinary user."""
    return [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]


def _enter_users(other: Keeper) -> list[str]:
    return ["nsenter", "--target", str(other.pid), *users()]


def _escaped(word: str) -> str:
    return word.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def missing_tools() -> list[str]:
    """Return which of the programs that a keeper needs this machine lacks."""
    return [tool for tool in ("unshare", "nsenter", "mount", "find", "sh") if shutil.which(tool) is None]
