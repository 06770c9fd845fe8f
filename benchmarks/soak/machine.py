"""What a rollout has of the machine: processes, folders, mounts, containers; counted, and killed now and then."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.soak.tasks import PREFIX
from terminal_gym.sandbox.reaper import LABEL, Owner

CGROUPS = Path("/sys/fs/cgroup")
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies: whatever outlives a rollout is found here."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def children(pid: int) -> list[int]:
    """Return the process's own children, of all its threads."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in path.read_text().split()]
    return found


def orphans(*, most_s: float = 10.0) -> list[int]:
    """Reap what has ended, and return what does not end.

    We are the parent of what was killed over its children's heads. A process namespace goes only once every process in
    it is reaped, so its first one stays, though nothing of it runs, for as long as we leave another unreaped.
    """
    until = time.monotonic() + most_s
    while alive := [pid for pid in children(os.getpid()) if not os.waitpid(pid, os.WNOHANG)[0]]:
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    return alive


def memory_kb(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@dataclass
class Machine:
    """This machine, as far as the rollouts of one soak use it."""

    runtime: str
    scratch: Path  # TMPDIR of every rollout

    def kill_a_sandbox(self, rollout: int, chance: random.Random) -> bool:
        """Kill one sandbox of the rollout from outside, as the kernel would; says whether there was one."""
        if self.runtime == "namespace":
            # The nursery, keepers, and the first processes of sandboxes; what they started is the agents'.
            victims = found = children(rollout)
            for _ in range(2):
                found = [child for pid in found for child in children(pid)]
                victims = victims + found
            if not victims:
                return False
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)
            return True
        held = [found["Id"] for found in self._labelled("containers") if _pid(found) == rollout]
        if held:
            with contextlib.suppress(Exception):  # it may have gone meanwhile
                self._client().remove_container(chance.choice(held), force=True)
        return bool(held)

    def left(self, owners: set[int]) -> dict[str, int]:
        """Count what is there though every rollout has ended, by kind.

        Args:
            owners: Process ids of the rollouts of this soak.
        """
        found = {
            "processes": len(orphans()),
            "folders": len(list(self.scratch.glob("tgym-*/*/"))),
            "control groups": len({path.name for path in CGROUPS.glob(f"**/terminal-gym/{PREFIX}*")}),
            "mounts": Path("/proc/self/mountinfo").read_text().count(str(self.scratch)),
        }
        for kind in ("containers", "networks", "volumes") if self.runtime == "docker" else ():
            found[kind] = sum(_pid(entry) in owners for entry in self._labelled(kind))
        return found

    def _labelled(self, kind: str) -> list[dict[str, object]]:
        client, ours = self._client(), {"label": LABEL}
        if kind == "containers":
            return list(client.containers(all=True, filters=ours))
        return list(
            client.networks(filters=ours)
            if kind == "networks"
            else client.volumes(filters=ours)["Volumes"] or []
        )

    def _client(self) -> Any:
        from terminal_gym.sandbox.container import Docker

        return Docker().engine.client


def _pid(found: dict[str, object]) -> int:
    labels = found.get("Labels")
    owner = Owner.parse(str(labels.get(LABEL, "")) if isinstance(labels, dict) else "")
    return owner.pid if owner else 0
