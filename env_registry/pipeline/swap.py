"""After the last stage: is an instance about its repository? Its solution over any other's image must fail.

One sandbox for each image. In it, one after the other: the files that the instance lays over an image, its solution,
and the functions of its tests; then what it wrote is taken away. No agent is at work, so the tests run where the
solution ran. The instance's own image is among them as a control: there it must pass.

A row of WORK/swap.jsonl is one image: `instances`, the keys of those that were played on it, and `solved`, those of
them that passed. Instances that came later make another row, `<repository>#<how many were played before>`.
"""

from __future__ import annotations

import io
import json
import secrets
import tarfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from env_registry.pipeline.images import Images
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Row, Table, Told, run_stage
from env_registry.pipeline.workers import held, opened
from terminal_gym.errors import SandboxLost
from terminal_gym.sandbox.base import Runtime, SandboxSpec
from terminal_gym.tasks.task import Limits
from terminal_gym.trajectory.store import locked
from terminal_gym.trusted_runtime.orders import ShellOrders

_PLAY = Path(__file__).with_name("swapped.py")
_AT_ONCE_S = 10.0  # for one solution


@dataclass(frozen=True)
class Swapped:
    """What became of one instance on the images."""

    key: str
    own: bool  # it passed on its own image
    elsewhere: tuple[str, ...]  # repositories on whose images it passed as well
    tried: int  # other repositories' images


def swap(settings: Settings, *, progress: Callable[[Row], None] = lambda row: None) -> Told:
    """Play every accepted instance over every built image that it was not played on yet.

    Raises:
        RunBusy: Another process works on the same folder.
        StoreError: A table cannot be read or written.
        RuntimeUnavailable: There are no sandboxes.
    """
    with locked(settings.work), opened(settings) as runtime, held(settings, runtime) as images:
        return _swap(settings, runtime, images, progress)


def _swap(settings: Settings, runtime: Runtime, images: Images, progress: Callable[[Row], None]) -> Told:
    instances = _solved(settings.work)
    table, played = Table(settings.work, "swap"), defaultdict[str, set[str]](set)
    for row in table.kept:
        played[_repository(row)] |= set(row.cells["instances"])
    packs: dict[frozenset[str], bytes] = {}
    keys: dict[str, list[str]] = {}  # repository → what is played on its image now

    def play(image: Row) -> Mapping[str, Any]:
        with images.lend(image.key, str(image.cells["image"])) as there:
            found = _played(runtime, there.name, packs[frozenset(keys[image.key])])
        solved = sorted(key for key, passed in found.items() if passed)
        return {"repository": image.key, "instances": keys[image.key], "solved": solved}

    items = []
    for image in Table(settings.work, "build").kept:
        before = len(played[image.key])
        if new := [row for row in instances if row.key not in played[image.key]]:
            keys[image.key] = [row.key for row in new]
            if (wanted := frozenset(keys[image.key])) not in packs:
                packs[wanted] = _pack(settings.work, new)
            items.append((f"{image.key}#{before}" if before else image.key, image))
    return run_stage(table, items, play, parallel=settings.parallel, progress=progress)


def _solved(work: Path) -> list[Row]:
    """The accepted instances that have a solution to play."""
    return [row for row in Table(work, "accept").kept if row.cells.get("record") != "weak"]


def _repository(row: Row) -> str:
    return str(row.cells.get("repository", row.key))


def swapped(work: Path) -> list[Swapped]:
    """Return what the table says of each instance, in the order of the accepted ones."""
    rows = Table(work, "swap").kept
    found = []
    for instance in _solved(work):
        with_it = [row for row in rows if instance.key in row.cells["instances"]]
        solved = [_repository(row) for row in with_it if instance.key in row.cells["solved"]]
        home = str(instance.cells["repository"])
        others = tuple(key for key in solved if key != home)
        found.append(
            Swapped(instance.key, home in solved, others, sum(_repository(row) != home for row in with_it))
        )
    return found


def _played(runtime: Runtime, image: str, pack: bytes) -> dict[str, bool]:
    limits = Limits(cpus=1, memory_mb=1024, pids=256, disk_mb=1024, network=False)
    name = f"tgym-swap-{secrets.token_hex(6)}"
    with runtime.start(SandboxSpec(image, name, limits)) as sandbox:
        sandbox.boot(ShellOrders(secrets.token_hex(8), cwd="/"))
        sandbox.write_archive(pack)
        python = ["/tg/bin/python3", "-I", "-S", "-B", "/tgym-swap/swapped.py", str(_AT_ONCE_S)]
        ran = sandbox.run(python, timeout_s=540.0)
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith(b"{")]
    if ran.exit_code or ran.timed_out:
        raise SandboxLost(
            f"{image}: {ran.exit_code}: {(ran.stderr or ran.stdout)[-300:].decode(errors='replace')}"
        )
    return {line["key"]: line["passed"] for line in lines}


def _pack(work: Path, instances: Sequence[Row]) -> bytes:
    """What is sent into each sandbox: the player, and of each instance the solution, tests and files laid over."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(_PLAY, "tgym-swap/swapped.py")
        for row in instances:
            folder = work / str(row.cells["path"])
            for name in ("solution.sh", "tests/test_outputs.py", "files"):
                if (folder / name).exists():
                    tar.add(folder / name, f"tgym-swap/instances/{row.key}/{name}")
    return made.getvalue()
