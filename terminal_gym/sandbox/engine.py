"""One Engine API address: a client per thread, a time limit on every call, and typed errors."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
from collections.abc import Iterator

import docker
import requests
from docker.errors import APIError, DockerException

from terminal_gym.errors import RuntimeUnavailable, SandboxLost, StartFailed, TerminalGymError

OLDEST_API = "1.41"
_CALL_S = 60


class Engine:
    """The Engine that answers at `address`; safe to use from many threads.

    Args:
        name: "docker" or "podman"; what error messages call it.
        address: A base URL; "" takes DOCKER_HOST or the default socket.
        advice: What a person should do when nobody answers.
    """

    def __init__(self, name: str, address: str, advice: str):
        self.name, self.advice = name, advice
        self.address = address or os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self._clients = threading.local()

    @property
    def is_local(self) -> bool:
        """Whether the daemon sees the same file system and /proc as we do."""
        return self.address.startswith("unix://")

    @property
    def client(self) -> docker.APIClient:
        """This thread's client."""
        client: docker.APIClient | None = getattr(self._clients, "client", None)
        if client is None:
            with self.calling("connect"):
                client = self._connect(self.api_version)
            self._clients.client = client
        return client

    @functools.cached_property
    def api_version(self) -> str:
        with self.calling("connect"):
            client = self._connect("auto")
            version: str = client.api_version
            client.close()
        if [int(part) for part in version.split(".")] < [int(part) for part in OLDEST_API.split(".")]:
            raise RuntimeUnavailable(
                f"{self.name} at {self.address} speaks API {version}; {OLDEST_API} is needed."
            )
        return version

    @functools.cached_property
    def cpus(self) -> int:
        """Cores of the machine that the daemon runs on."""
        with self.calling("ask for its cores"):
            return int(self.client.info()["NCPU"])

    def _connect(self, version: str) -> docker.APIClient:
        tls = (
            docker.tls.TLSConfig(
                client_cert=(f"{certs}/cert.pem", f"{certs}/key.pem"), ca_cert=f"{certs}/ca.pem", verify=True
            )
            if (certs := os.environ.get("DOCKER_CERT_PATH")) and os.environ.get("DOCKER_TLS_VERIFY")
            else False
        )
        if self.is_local:
            _knock(self.address.removeprefix("unix://"))
        return docker.APIClient(base_url=self.address, version=version, timeout=_CALL_S, tls=tls)

    @contextlib.contextmanager
    def calling(self, what: str, *, sandbox: str = "") -> Iterator[None]:
        """Turn what a call can raise into typed errors.

        Args:
            what: What was tried, as words after "could not".
            sandbox: Name of the sandbox that the call was about; its loss is then what is reported.
        """
        try:
            yield
        except TerminalGymError:
            raise
        except APIError as error:
            if error.status_code is not None and error.status_code < 500 and not sandbox:
                raise StartFailed(f"{self.name} could not {what}: {error.explanation or error}") from error
            raise SandboxLost(
                f"{self.name} could not {what} {sandbox}: {error.explanation or error}"
            ) from error
        except (requests.RequestException, DockerException, OSError) as error:
            if sandbox:
                raise SandboxLost(f"{self.name} stopped answering ({what} {sandbox}): {error}") from error
            found = f"{self.name} at {self.address} does not answer ({what}): {error}."
            raise RuntimeUnavailable(f"{found} {self.advice}") from error


def _knock(path: str) -> None:
    """Raise OSError where nobody listens; the docker package would leave its own socket open then."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CALL_S)
        probe.connect(path)
