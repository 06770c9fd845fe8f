"""How much of the machine a compose file gives a service: `deploy.resources.limits`, `cpus`, `mem_limit`, `pids_limit`.

Source: the Compose specification, "deploy", "cpus", "mem_limit", "pids_limit"; sizes are powers of 1,024.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from terminal_gym.tasks.marked_yaml import Block
from terminal_gym.tasks.task import Limits

KEYS = ("deploy", "cpus", "mem_limit", "pids_limit")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([bkmgt])b?)?", re.IGNORECASE)
_BYTES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
Filled = Callable[[Block, str], str]
"""(block, key) → the plain value there, its variables filled in; "" where there is none."""


@dataclass(frozen=True)
class Room:
    """What a service may use; None: the file does not say."""

    cpus: float | None = None
    memory_mb: int | None = None
    pids: int | None = None

    def on(self, limits: Limits) -> Limits:
        """Return `limits` with what the file says in their place."""
        return replace(
            limits,
            cpus=limits.cpus if self.cpus is None else self.cpus,
            memory_mb=limits.memory_mb if self.memory_mb is None else self.memory_mb,
            pids=limits.pids if self.pids is None else self.pids,
        )


def read_room(service: Block, filled: Filled) -> Room:
    """Return what a service may use. What it is promised (`reservations`) and how often it runs again say nothing here.

    Raises:
        BadTaskFormat: A value that is no size or number; devices; several replicas; a key of another orchestrator.
    """
    plain = Room(
        _number(service, "cpus", filled),
        _megabytes(service, "mem_limit", filled),
        _whole(service, "pids_limit", filled),
    )
    limits = _limits(service, filled)
    if limits is None:
        return plain
    limits.refuse_unknown(("cpus", "memory", "pids"))
    found = Room(
        _number(limits, "cpus", filled), _megabytes(limits, "memory", filled), _whole(limits, "pids", filled)
    )
    return Room(found.cpus or plain.cpus, found.memory_mb or plain.memory_mb, found.pids or plain.pids)


def _limits(service: Block, filled: Filled) -> Block | None:
    deploy = service.block("deploy")
    if deploy is None:
        return None
    deploy.refuse_unknown(("resources", "replicas", "restart_policy"))
    if filled(deploy, "replicas") not in ("", "1"):
        raise deploy.wrong("replicas", f"{deploy.values['replicas']!r} replicas", "Each service runs once.")
    resources = deploy.block("resources")
    if resources is None:
        return None
    resources.refuse_unknown(("limits", "reservations"))
    promised = resources.block("reservations")
    if promised is not None and promised.values.get("devices"):
        raise promised.wrong("devices", "the task asks for devices", "No runtime here gives any.")
    return resources.block("limits")


def _number(block: Block, key: str, filled: Filled) -> float | None:
    text = filled(block, key)
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < 1e6:
        raise block.wrong(key, f"{text!r} is no number of cores", "Write e.g. '0.5' or '2'.")
    return found


def _megabytes(block: Block, key: str, filled: Filled) -> int | None:
    text = filled(block, key).strip()
    if not text:
        return None
    found = _SIZE.fullmatch(text)
    size = float(found[1]) * _BYTES[(found[2] or "").lower()] if found else 0.0
    if not 1 <= size < 1 << 60:
        raise block.wrong(key, f"{text!r} is no size", "Write e.g. 2G or 512M.")
    return max(1, round(size / (1 << 20)))


def _whole(block: Block, key: str, filled: Filled) -> int | None:
    text = filled(block, key)
    if text in ("", "-1", "0"):  # as compose says that there is no limit
        return None
    if not text.isdecimal() or len(text) > 9:
        raise block.wrong(key, f"{text!r} is no number of processes", "Write e.g. 512.")
    return int(text)
