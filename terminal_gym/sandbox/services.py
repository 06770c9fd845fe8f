"""The services beside a sandbox: a private network, volumes and containers that live as long as it does.

Nothing of the host is shown and no port of it is published. Names are made from the sandbox's, so that a second start
finds what a killed one left; all carry the owner's lease. Without the network the private one is internal: services and
sandbox reach one another, and nothing else.

What it does not promise: services run with the Engine's usual privileges, for their images expect them. They are the
task's, not the agent's; who takes one over is in that service's container.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docker.errors import APIError, NotFound
from docker.types import LogConfig

from terminal_gym.errors import SandboxError, StartFailed, UnknownName
from terminal_gym.sandbox.base import ExecResult, Image, SandboxSpec
from terminal_gym.sandbox.engine import CALL_S, Engine
from terminal_gym.sandbox.health import wait_healthy
from terminal_gym.sandbox.isolation import NAME_LABEL, container_name, network_name
from terminal_gym.sandbox.reaper import LABEL, current_owner, is_orphan
from terminal_gym.tasks.harness import Condition, Healthcheck, Service
from terminal_gym.tasks.image import ImageRecipe

_LOOK_S = 0.1  # between two looks at a service that is coming up
_STARTED_S = 120.0  # for a service that has to end by itself
_TAIL = 2_000


@dataclass
class Services:
    """What was started; `close` removes all of it."""

    engine: Engine
    spec: SandboxSpec
    ids: dict[str, str]

    def id_of(self, service: str) -> str:
        """Return the container of a service; UnknownName where none has that name."""
        if service not in self.ids:
            raise UnknownName("service", service, known=self.ids)
        return self.ids[service]

    def run(self, service: str, argv: Sequence[str], *, timeout_s: float, user: str = "") -> ExecResult:
        """Run a program in a service; at the limit it is left behind, and the result says `timed_out`."""
        client = self.engine.client
        with self.engine.calling(f"run a helper in service {service} of", sandbox=self.spec.name):
            made = client.exec_create(self.id_of(service), list(argv), user=user)["Id"]
            client.exec_start(made, detach=True)
            until = time.monotonic() + timeout_s
            while (found := client.exec_inspect(made))["Running"] and time.monotonic() < until:
                time.sleep(_LOOK_S / 5)
        code = found["ExitCode"]
        return ExecResult(124 if code is None else int(code), b"", b"", timed_out=found["Running"])

    def close(self) -> None:
        """Remove containers, then the network and the volumes. Safe to call again."""
        client = self.engine.client
        with self.engine.calling("remove the services of", sandbox=self.spec.name):
            for id in self.ids.values():
                _removed(self.engine, id)
            with contextlib.suppress(NotFound):
                client.remove_network(network_name(self.spec.name))
            for volume in _volumes(self.spec):
                with contextlib.suppress(NotFound):
                    client.remove_volume(volume, force=True)


def started(engine: Engine, spec: SandboxSpec, *, build: Callable[[ImageRecipe], Image]) -> Services:
    """Start the services of `spec` in the order of their needs; returns once each is in the state that is waited for.

    Raises:
        StartFailed: The Engine refused, or a service ended or did not become healthy; says which, and what it printed.
        ImageMissing, BuildFailed: One of their images cannot be had.
    """
    made = Services(engine, spec, {})
    try:
        _make_network(engine, spec)
        for volume in _volumes(spec):
            engine.client.create_volume(volume, labels=_labels(spec))
        for service in _in_order(spec.services):
            for name, condition in service.needs:
                _wait(made, name, condition)
            image = build(service.image)
            made.ids[service.name] = _start(engine, spec, service, image)
        for service in spec.services:
            waited = dict(spec.needs).get(service.name, "started")
            _wait(made, service.name, "healthy" if service.healthcheck and waited == "started" else waited)
    except BaseException:
        with contextlib.suppress(SandboxError):
            made.close()
        raise
    return made


def _in_order(services: Sequence[Service]) -> list[Service]:
    """Each after those that it needs; the reader has refused circles."""
    ordered: list[Service] = []
    waiting = list(services)
    while waiting:
        names = {service.name for service in waiting}
        ready = [service for service in waiting if not names & {name for name, _ in service.needs}]
        if not ready:
            raise StartFailed(f"services wait for one another: {sorted(names)}")
        ordered += ready
        waiting = [service for service in waiting if service not in ready]
    return ordered


def _labels(spec: SandboxSpec) -> dict[str, str]:
    return {**spec.labels, LABEL: str(current_owner()), NAME_LABEL: spec.name}


def _volumes(spec: SandboxSpec) -> list[str]:
    names = {mount.volume for service in spec.services for mount in service.mounts}
    return [container_name(f"{spec.name}-{name}") for name in sorted(names)]


def _make_network(engine: Engine, spec: SandboxSpec) -> None:
    name, client = network_name(spec.name), engine.client
    for left in client.networks(names=[name]):
        if left["Name"] == name:
            _refuse_living(name, (left.get("Labels") or {}).get(LABEL))
            client.remove_network(left["Id"])
    internal = not spec.limits.network
    # An internal network still ends at the host, unless the host has no address on it.
    options = {"com.docker.network.bridge.inhibit_ipv4": "true"} if internal else {}
    client.create_network(
        name, driver="bridge", internal=internal, options=options, labels=_labels(spec), check_duplicate=True
    )


def _start(engine: Engine, spec: SandboxSpec, service: Service, image: Image) -> str:
    name = container_name(f"{spec.name}-{service.name}")
    settings = _settings(engine, spec, service, image)
    try:
        id = str(engine.client.create_container_from_config(settings, name)["Id"])
    except APIError as error:
        if error.status_code != 409:
            raise
        left = engine.client.inspect_container(name)
        _refuse_living(name, (left["Config"].get("Labels") or {}).get(LABEL))
        _removed(engine, left["Id"])
        id = str(engine.client.create_container_from_config(settings, name)["Id"])
    engine.client.start(id)
    return id


def _refuse_living(name: str, lease: str | None) -> None:
    if lease != str(current_owner()) and not is_orphan(lease):
        raise StartFailed(f"the name {name} belongs to another process ({lease or 'not terminal-gym'})")


def _settings(engine: Engine, spec: SandboxSpec, service: Service, image: Image) -> dict[str, Any]:
    client, network = engine.client, network_name(spec.name)
    binds = [
        f"{container_name(f'{spec.name}-{mount.volume}')}:{mount.target}:{'ro' if mount.read_only else 'rw'}"
        for mount in service.mounts
    ]
    host = client.create_host_config(
        binds=binds,
        security_opt=["no-new-privileges:true"] if spec.no_new_privileges else [],
        pids_limit=max(spec.limits.pids, 1024),
        mem_limit=spec.limits.memory_mb * 1024 * 1024,
        memswap_limit=spec.limits.memory_mb * 1024 * 1024,
        network_mode=network,
        log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "1"}),
        init=service.init,
    )
    aliases = list(dict.fromkeys((service.name, *service.aliases)))
    endpoints: Any = {network: client.create_endpoint_config(aliases=aliases)}
    attached = client.create_networking_config(endpoints)
    config: dict[str, Any] = client.create_container_config(
        image.digest,
        list(service.command or ()),
        entrypoint=list(service.entrypoint) if service.entrypoint is not None else None,
        environment=dict(service.env),
        user=service.user or None,
        working_dir=service.workdir or None,
        labels=_labels(spec),
        host_config=host,
        networking_config=attached,
        hostname=service.name,
    )
    if service.command is None and service.entrypoint is None:
        del config["Cmd"]  # then the image's own counts
    return config


def _wait(made: Services, name: str, condition: Condition) -> None:
    """Return once a service is in that state."""
    if name not in made.ids:  # the agent's machine, which starts last
        return
    service = next(service for service in made.spec.services if service.name == name)
    state = _state(made, name)
    if condition == "completed":
        until = time.monotonic() + _STARTED_S
        while state["Running"] and time.monotonic() < until:
            time.sleep(_LOOK_S)
            state = _state(made, name)
        if state["Running"] or state["ExitCode"] != 0:
            raise _failed(made, name, "did not end by itself" if state["Running"] else "failed")
    elif condition == "healthy":
        check = service.healthcheck or _own_check(made, name)
        if check is None:
            raise StartFailed(f"service {name} has no health check, and another waits for it to be healthy")
        wait_healthy(check, lambda: _healthy(made, name, check), why=lambda what: _failed(made, name, what))
    elif not state["Running"] and state["ExitCode"] != 0:
        raise _failed(made, name, "ended at once")


def _state(made: Services, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = made.engine.client.inspect_container(made.ids[name])["State"]
    return found


def _healthy(made: Services, name: str, check: Healthcheck) -> bool:
    if not _state(made, name)["Running"]:
        raise _failed(made, name, "ended before it was healthy")
    ran = made.run(name, check.command, timeout_s=min(check.timeout_s, CALL_S))
    return ran.exit_code == 0 and not ran.timed_out


def _own_check(made: Services, name: str) -> Healthcheck | None:
    """The health check that the image brings."""
    found = made.engine.client.inspect_container(made.ids[name])["Config"].get("Healthcheck") or {}
    test = found.get("Test") or ["NONE"]
    if test[0] not in ("CMD", "CMD-SHELL"):
        return None
    command = ("sh", "-c", test[1]) if test[0] == "CMD-SHELL" else tuple(test[1:])
    return Healthcheck(
        command,
        interval_s=found.get("Interval", 0) / 1e9 or 30.0,
        timeout_s=found.get("Timeout", 0) / 1e9 or 30.0,
        start_s=found.get("StartPeriod", 0) / 1e9,
        retries=found.get("Retries", 0) or 3,
    )


def _failed(made: Services, name: str, what: str) -> StartFailed:
    said = ""
    with contextlib.suppress(APIError):
        said = made.engine.client.logs(made.ids[name], tail=20)[-_TAIL:].decode("utf-8", "replace")
    return StartFailed(f"service {name} of {made.spec.name} {what}; it printed: {said.strip() or 'nothing'}")


def _removed(engine: Engine, id: str) -> None:
    with contextlib.suppress(NotFound):
        engine.client.remove_container(id, force=True, v=True)
