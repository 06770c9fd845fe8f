"""`tgym doctor`: what this machine can do, and what to install for the rest."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from terminal_gym.cli.report import BROKEN, PASSED, show, show_json, show_table
from terminal_gym.errors import TerminalGymError
from terminal_gym.sandbox.base import RUNTIMES, open_runtime
from terminal_gym.trusted_runtime.tree import cache_folder, trusted_tree

Mark = Literal["yes", "partly", "no"]
LOW_DISK_GB = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing this machine can or cannot do."""

    subject: str
    works: Mark
    detail: str
    advice: str = ""


def doctor(json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Say what this machine can do and what to install. Exit 3 where no runtime works."""
    found = list(examine())
    works = any(f.subject in RUNTIMES and f.works != "no" for f in found)
    if json:
        show_json({"runtime": works, "findings": [asdict(f) for f in found]})
    else:
        show_table("", ["subject", "works", "detail", "advice"], [list(asdict(f).values()) for f in found])
        show("tasks can be run here" if works else "no runtime works here", style="green" if works else "red")
    raise typer.Exit(PASSED if works else BROKEN)


def examine() -> Iterator[Finding]:
    """Yield what was found, runtimes first."""
    for name in RUNTIMES:
        yield _runtime(name)
    yield from (check() for check in (_trusted_tree, _user, _namespaces, _cgroups, _kvm))
    for tool, use, package in TOOLS:
        path = shutil.which(tool)
        advice = "" if path else f"install {package}"
        yield Finding(tool, "yes" if path else "no", path or f"missing: {use}", advice)
    yield _disk("images and overlays", Path(tempfile.gettempdir()))
    yield _disk("trusted tree", cache_folder())


TOOLS = (
    (
        "bwrap",
        "an ordinary user's namespaces, and root's before Linux 5.12, are made by unshare",
        "bubblewrap",
    ),
    ("unshare", "the namespace runtime cannot start", "util-linux"),
    ("newuidmap", "an ordinary user has one uid in a namespace only", "uidmap"),
    ("mmdebstrap", "bootstrapping a Debian base is slower, or not possible, without it", "mmdebstrap"),
    ("debootstrap", "the other way to bootstrap a Debian base", "debootstrap"),
)


def _runtime(name: str) -> Finding:
    """Ask a runtime; one that lists what it cannot enforce works partly."""
    try:
        with closing(open_runtime(name)) as runtime:
            runtime.check()
            missing = tuple(getattr(runtime, "missing_limits", tuple)())
            judges = str(getattr(runtime, "judges_stand", ""))
    except (TerminalGymError, ImportError) as error:
        first, _, advice = str(error).partition(". ")
        return Finding(name, "no", first, advice)
    if missing:
        return Finding(name, "partly", f"cannot enforce: {', '.join(missing)}", "see docs/sandboxing.md")
    return Finding(name, "yes", f"answers; judges stand {judges}" if judges else "answers")


def _trusted_tree() -> Finding:
    try:
        tree = trusted_tree()
    except TerminalGymError as error:
        return Finding("trusted tree", "no", str(error), "nothing can be judged without it")
    return Finding("trusted tree", "yes", f"{tree.path} ({tree.hash[:12]})")


def _user() -> Finding:
    uid = os.geteuid()
    return Finding("user", "yes", f"uid {uid} on Linux {platform.release()}, {os.cpu_count()} cores")


def _namespaces() -> Finding:
    if os.geteuid() == 0:
        return Finding("user namespaces", "yes", "not needed: this is root")
    for knob, bad in (("unprivileged_userns_clone", "0"), ("apparmor_restrict_unprivileged_userns", "1")):
        path = Path("/proc/sys/kernel") / knob
        if path.exists() and path.read_text("ascii").strip() == bad:
            return Finding(
                "user namespaces", "no", f"kernel.{knob} is {bad}", "ask root to change this sysctl"
            )
    limit = Path("/proc/sys/user/max_user_namespaces")
    if limit.exists() and limit.read_text("ascii").strip() == "0":
        return Finding(
            "user namespaces", "no", "user.max_user_namespaces is 0", "ask root to raise this sysctl"
        )
    return Finding("user namespaces", "yes", "an ordinary user may make them")


def _cgroups() -> Finding:
    """Limits of memory, processes and cores need a cgroup that we may write."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        names = (root / "cgroup.controllers").read_text("ascii").split()
        missing = [name for name in ("cpu", "memory", "pids") if name not in names]
        version, writable = "2", os.access(root / "cgroup.procs", os.W_OK)
    else:
        missing = [name for name in ("cpu", "memory", "pids") if not (root / name).is_dir()]
        version, writable = "1", os.access(root / "pids", os.W_OK)
    if missing or not writable:
        why = f"without {', '.join(missing)}" if missing else "not writable by this user"
        return Finding("cgroups", "partly", f"version {version}, {why}", "use docker, or a delegated cgroup")
    return Finding("cgroups", "yes", f"version {version}, writable")


def _kvm() -> Finding:
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Finding("kvm", "yes", "not used: QEMU tasks are emulated")
    return Finding("kvm", "no", "not needed: QEMU tasks are emulated")


def _disk(subject: str, path: Path) -> Finding:
    while not path.exists():
        path = path.parent
    free_gb = shutil.disk_usage(path).free / 1e9
    low = free_gb < LOW_DISK_GB
    return Finding(
        f"disk: {subject}",
        "partly" if low else "yes",
        f"{free_gb:.1f} GB free at {path}",
        "make room" if low else "",
    )
