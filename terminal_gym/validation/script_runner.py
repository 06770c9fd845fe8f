"""Runs a format's own test script, in one of two ways.

    beside      in the agent's machine as it is, its processes running, nothing wiped: what upstream does (parity)
    alone       booted as the only thing that runs, folders emptied first, a signed report (strict, and every
                separate verifier)

The shim (trusted_runtime/guest/shim) stands in for what scripts download before they test. Alone it is always there,
for an agent's curl or uv would decide otherwise; beside, only where there is no network.

What it does not promise: alone, the script itself is read by the trusted bash, and pytest is the trusted one, but what
a test starts runs as root in a machine that may be the agent's. Code that a test runs can write a reward file too.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terminal_gym.errors import OversizedArchive, SandboxLost
from terminal_gym.sandbox.base import Image, Sandbox
from terminal_gym.tasks.harness import ScriptSpec
from terminal_gym.tasks.task import Task
from terminal_gym.trusted_runtime.orders import BASH, SHIM, ScriptOrders
from terminal_gym.trusted_runtime.tree import GUEST, INIT_ARGV
from terminal_gym.validation.parsers import MOST_BYTES
from terminal_gym.validation.signed import asked

REWARDS = ("/logs/verifier/reward.json", "/logs/verifier/reward.txt")
_GRACE_S = 15.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Read by loaders and interpreters before the first line of a script.
_OBEYED = ("LD_", "DYLD_", "PYTHON", "PYTEST_", "BASH_", "GLIBC_", "PERL5", "RUBY", "NODE_")
_OBEYED_WHOLE = ("ENV", "SHELLOPTS", "CDPATH", "GLOBIGNORE", "IFS", "PS4", "PROMPT_COMMAND")
_EMPTIED = """
import os, shutil, sys
for path in sys.argv[1:]:
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)
    os.makedirs(path)
    os.chmod(path, 0o777)
"""


@dataclass(frozen=True)
class Ran:
    """What a script left."""

    status: str  # ran, timeout; not_run, bad_archive, no_room, crashed: `out` says why; no_report
    out: str = ""
    exit_code: int = 0
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    shim: bool = False

    @property
    def rewards(self) -> tuple[bytes | None, bytes | None]:
        """(reward.json, reward.txt)"""
        as_json, as_text = (self.files.get(path) for path in REWARDS)
        return as_json, as_text


def beside(sandbox: Sandbox, task: Task, script: ScriptSpec, *, shim: bool, wipe: bool = False) -> Ran:
    """Run the script in the agent's machine while its processes run; returns what it left.

    Args:
        shim: Put the shim first in PATH.
        wipe: Empty /tests and /logs/verifier first, as upstream does between the steps of a task.

    Raises:
        SandboxLost: The machine is gone, or gave no answer.
    """
    if wipe:
        argv = [*INIT_ARGV[:-1], "-c", _EMPTIED, "/tests", "/logs/verifier"]
        if (done := sandbox.run(argv, timeout_s=60.0)).exit_code != 0:
            raise SandboxLost(f"{sandbox.name}: /tests cannot be emptied: {done.stderr[-300:]!r}")
    sandbox.write_archive(packed(script, below="tests"))
    orders = {
        "argv": _argv(script, trusted=False),
        "env": _env(sandbox.image, task, script, shim=shim, strict=False),
        "user": _user(sandbox.image, script),
        "cwd": task.workdir or sandbox.image.workdir or "/",
        "timeout_s": script.timeout_s,
    }
    argument = base64.b64encode(json.dumps(orders).encode()).decode()
    argv = [*INIT_ARGV[:-1], f"{GUEST}/guest/attend.py", argument]
    done = sandbox.run(argv, timeout_s=script.timeout_s + _GRACE_S)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        found = f"exit code {done.exit_code}, {done.stderr[-300:].decode('utf-8', 'replace')!r}"
        raise SandboxLost(f"{sandbox.name}: the test script left no answer ({found})") from None
    files = {path: _file(sandbox, path) for path in REWARDS} if script.parser == "reward-file" else {}
    return Ran(str(told["status"]), str(told["out"]), int(told["exit_code"]), files, shim)


def alone(
    sandbox: Sandbox, task: Task, script: ScriptSpec, *, crossed: bytes = b"", shim: bool = True
) -> Ran:
    """Boot `sandbox` with nothing but the script; returns what it left. The sandbox is stopped afterwards.

    Args:
        crossed: A tar of artifacts that are unpacked over `/` first.
        shim: What the script downloads is stood in for.

    Raises:
        SandboxError: The machine does not boot, or is lost.
    """
    machine = script.machine
    owns = machine is not None and machine.owns_tests
    workdir = (machine.workdir if machine else task.workdir) or sandbox.image.workdir or "/"
    orders = ScriptOrders(
        argv=tuple(_argv(script, trusted=True)),
        timeout_s=script.timeout_s,
        env=_env(sandbox.image, task, script, shim=shim, strict=True),
        user=_user(sandbox.image, script),
        cwd=workdir,
        wipe=("/logs/verifier",) if owns else ("/tests", "/logs/verifier"),
        make=("/logs/agent", "/logs/verifier", "/logs/artifacts"),
        read=REWARDS,
    )
    told = asked(sandbox, orders, tests=b"" if owns else packed(script, below=""), artifacts=crossed)
    if told is None:
        return Ran("no_report", shim=shim)
    return Ran(
        str(told.get("status")),
        str(told.get("out", "")),
        int(told.get("exit_code", 0)),
        _files(told.get("files")),
        shim=shim,
    )


def packed(script: ScriptSpec, *, below: str) -> bytes:
    """Return a tar of the script and what it needs: later folders win, owner root, programs executable."""
    files: dict[str, Path] = {}
    for source in script.uploads:
        if source.is_file():
            files[source.name] = source
        else:
            files |= {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*"))}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, path in _with_folder(below, files):
            entry = tarfile.TarInfo(name)
            if path is None or path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            elif path.is_file():
                body = path.read_bytes()
                runs = path.suffix == ".sh" or path.stat().st_mode & 0o100
                entry.mode, entry.size = 0o755 if runs else 0o644, len(body)
                tar.addfile(entry, io.BytesIO(body))
    return made.getvalue()


def _with_folder(below: str, files: Mapping[str, Path]) -> Iterable[tuple[str, Path | None]]:
    if below:
        yield below, None
    for name, path in files.items():
        if "__pycache__" not in path.parts:
            yield (f"{below}/{name}" if below else name), path


def _argv(script: ScriptSpec, *, trusted: bool) -> list[str]:
    """The command line: upstream starts Harbor's script by its first line, and Terminal-Bench's with bash."""
    name = script.script.rpartition("/")[2]
    sources = [(s if s.is_file() else s / name) for s in script.uploads]
    first = next(
        (s.read_bytes()[:200].split(b"\n")[0] for s in reversed(sources) if s.is_file() and s.name == name),
        b"",
    )
    is_shell = (
        script.parser != "reward-file"
        or not first.startswith(b"#!")
        or first.rstrip().endswith((b"sh", b"sh -e"))
    )
    if not is_shell:
        return [script.script]
    flags = ["-e"] if script.parser == "reward-file" and first.rstrip().endswith(b"-e") else []
    return [BASH if trusted else "bash", *flags, script.script]


def _user(image: Image, script: ScriptSpec) -> str:
    """Terminal-Bench tests as root, Harbor as the image's user; whoever the task names comes first."""
    return script.user or (image.user if script.parser == "reward-file" else "")


def _env(image: Image, task: Task, script: ScriptSpec, *, shim: bool, strict: bool) -> dict[str, str]:
    own = dict(script.machine.env) if script.machine else dict(task.env)
    env = {"PATH": _PATH, **image.env, **own, **script.env}
    if strict:
        env = {k: v for k, v in env.items() if not k.startswith(_OBEYED) and k not in _OBEYED_WHOLE}
    if shim:
        network = script.machine.network if script.machine and script.machine.network is not None else None
        has = task.limits.network if network is None else network
        env |= {"PATH": f"{SHIM}:{env['PATH']}", "TGYM_NETWORK": "1" if has else "0"}
    return env


def _file(sandbox: Sandbox, path: str) -> bytes | None:
    """A plain file's content; a link or anything else that an agent left there is no file."""
    try:
        archive = sandbox.read_archive(path, limit_bytes=MOST_BYTES)
    except OversizedArchive:
        return b"\0"  # no reward is as long as that: it is wrong, not missing
    if archive is None:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        entry = tar.next()
        content = tar.extractfile(entry) if entry is not None and entry.isreg() else None
        return None if content is None else content.read()


def _files(told: Any) -> dict[str, bytes | None]:
    rows = told if isinstance(told, dict) else {}
    return {path: None if body is None else base64.b64decode(body) for path, body in rows.items()}
