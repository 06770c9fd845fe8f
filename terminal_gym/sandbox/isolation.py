"""What an Engine is asked for: one container's settings, from which its isolation follows.

Source: CIS Docker Benchmark, section 5, for what is taken away.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from docker.types import DriverConfig, Healthcheck, LogConfig, Mount, Ulimit

from terminal_gym.sandbox.base import Image, SandboxSpec
from terminal_gym.sandbox.engine import Engine
from terminal_gym.sandbox.reaper import LABEL, current_owner
from terminal_gym.trusted_runtime.tree import GUEST, INIT_ARGV, INIT_ENV

NAME_LABEL = "terminal-gym.sandbox"
SPEC_LABEL = "terminal-gym.spec"  # hash of spec and image: what may be adopted under a name
CAPABILITIES = (  # what stays of the root user's powers inside
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "SETGID",
    "SETUID",
    "KILL",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
)


def settings(
    engine: Engine,
    spec: SandboxSpec,
    image: Image,
    *,
    tree: str,
    beside: str = "",
    holder: str = "",
    ulimits: Sequence[Ulimit] = (),
    oci_runtime: str = "",
) -> dict[str, Any]:
    """Return the body of the request that creates the container of `spec`.

    Args:
        tree: Folder on the engine's machine, or volume, that holds the trusted tree.
        beside: An empty folder on the engine's machine. With it the container gets a view of its own of `tree`;
            without, all containers share its files, and may take leases and locks that the others wait for.
        holder: A container whose network namespace this one joins, where it would have an empty one of its own.
        ulimits: More of them, for one kind of engine.
        oci_runtime: As registered with the engine; "": its default.
    """
    client, limits = engine.client, spec.limits
    network = "bridge" if limits.network else f"container:{holder}" if holder else "none"
    attached = None
    if spec.services or spec.beside:
        network = network_name(spec.beside or spec.name)
        endpoints: Any = {network: client.create_endpoint_config(aliases=list(spec.aliases))}
        attached = client.create_networking_config(endpoints)
    if spec.share_network_of:
        network = f"container:{container_name(spec.share_network_of)}"
    disk = limits.disk_mb * 1024 * 1024
    fingerprint = hashlib.sha256(repr((spec, image.digest, oci_runtime)).encode()).hexdigest()
    host = client.create_host_config(
        binds=None if beside else [f"{tree}:{GUEST}:ro"],
        mounts=[_own_view(spec, tree, beside)] if beside else None,
        cap_drop=["ALL"],
        cap_add=list(CAPABILITIES),
        security_opt=["no-new-privileges:true"] if spec.no_new_privileges else [],
        pids_limit=limits.pids,
        mem_limit=limits.memory_mb * 1024 * 1024,
        memswap_limit=limits.memory_mb * 1024 * 1024,
        nano_cpus=int(min(limits.cpus, engine.cpus) * 1e9),
        network_mode=network,
        ipc_mode="private",
        ulimits=[
            Ulimit(name="nofile", soft=4096, hard=4096),
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="fsize", soft=disk, hard=disk),
            *ulimits,
        ],
        log_config=LogConfig(type="none"),
        init=False,
        runtime=oci_runtime or None,
    )
    config: dict[str, Any] = client.create_container_config(
        image.digest,
        [],
        entrypoint=list(INIT_ARGV),
        tty=True,
        stdin_open=True,
        user="0:0",
        working_dir="/",
        environment=dict.fromkeys(image.env, "") | INIT_ENV,  # the image's variables travel in the orders
        labels={
            **spec.labels,
            LABEL: str(current_owner()),
            NAME_LABEL: spec.name,
            SPEC_LABEL: fingerprint,
        },
        stop_signal="SIGKILL",
        healthcheck=Healthcheck(test=["NONE"]),
        host_config=host,
        networking_config=attached,
        hostname=None if spec.share_network_of or holder else "sandbox",  # it then has the other's
    )
    return config


def _own_view(spec: SandboxSpec, tree: str, beside: str) -> Mount:
    """A volume without a name, which goes with its container: an overlay without a layer that can be written to."""
    options = {"type": "overlay", "device": "overlay", "o": f"ro,lowerdir={tree}:{beside}"}
    labels = {LABEL: str(current_owner()), NAME_LABEL: spec.name}
    driver = DriverConfig("local", options)
    return Mount(GUEST, None, type="volume", no_copy=True, labels=labels, driver_config=driver)


def joins_holder(spec: SandboxSpec) -> bool:
    """Whether the sandbox can have a network namespace that was made before."""
    return not (spec.limits.network or spec.services or spec.beside or spec.share_network_of)


def container_name(name: str) -> str:
    """Return the Engine's name for a sandbox."""
    return "tgym-" + re.sub(r"[^a-zA-Z0-9_.-]", "-", name)


def network_name(name: str) -> str:
    """Return the Engine's name for the private network of a sandbox and its services."""
    return container_name(name)
