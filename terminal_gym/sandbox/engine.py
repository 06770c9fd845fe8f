"""One Engine API address: a client per thread, a time limit on every call, and typed errors."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound, create_api_error_from_http_exception
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool

from terminal_gym.errors import RuntimeUnavailable, SandboxLost, StartFailed, TerminalGymError

OLDEST_API = "1.41"
CALL_S = 60
_PLAIN_RUNTIMES = ("runc", "crun")
_OTHER_OWNERS = ("name=userns", "name=rootless", "name=selinux")


class Engine:
    """The Engine that answers at `address`; safe to use from many threads.

    Args:
        name: "docker" or "podman"; what error messages call it.
        address: A base URL; "" takes DOCKER_HOST or the default socket.
        advice: What a person should do when nobody answers.
        call_s: The most that one call waits for the daemon's next byte, in seconds.
    """

    def __init__(self, name: str, address: str, advice: str, *, call_s: int = CALL_S):
        self.name, self.advice, self.call_s = name, advice, call_s
        self.address = address or os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self._threads = threading.local()

    @property
    def is_local(self) -> bool:
        """Whether the daemon sees the same file system and /proc as we do."""
        return self.address.startswith("unix://")

    @property
    def client(self) -> docker.APIClient:
        """This thread's client."""
        held: _Held | None = getattr(self._threads, "held", None)
        if held is None or held.pid != os.getpid():  # a fork shares its parent's connections: never use them
            with self.calling("connect"):
                held = _Held(self._connect(self.api_version))
            self._threads.held = held
        return held.client

    @functools.cached_property
    def api_version(self) -> str:
        """What both sides speak."""
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
    def about(self) -> Mapping[str, Any]:
        """What it said about itself when it was first asked: that takes a running daemon some 50 ms."""
        with self.calling("ask about it"):
            told: Mapping[str, Any] = self.client.info()
        return told

    @functools.cached_property
    def is_plain(self) -> bool:
        """Whether this process may look behind it: it is this machine's, and we are root as its containers are.

        Not where they are started by anything but runc or crun, or have other users or labels: there what it does
        itself is wanted.
        """
        if not self.is_local or os.geteuid() != 0:
            return False
        secured = " ".join(self.about.get("SecurityOptions") or [])
        plain = self.about.get("DefaultRuntime") in _PLAIN_RUNTIMES
        return plain and not any(one in secured for one in _OTHER_OWNERS)

    @property
    def cpus(self) -> int:
        """Cores of the machine that the daemon runs on."""
        return int(self.about["NCPU"])

    def get(self, place: str, query: Mapping[str, str]) -> requests.Response:
        """Return the open response to a GET; for streams, which the docker package does not close when left early.

        Raises:
            APIError: As the docker package does.
        """
        return _checked(self.client.get(self._url(place), params=query, stream=True, timeout=self.call_s))

    def head(self, place: str, query: Mapping[str, str]) -> requests.Response | None:
        """Return the response to a HEAD, None where nothing is there."""
        answer = self.client.head(self._url(place), params=query, timeout=CALL_S)
        return None if answer.status_code == 404 else _checked(answer)

    def post(self, place: str, body: Mapping[str, object], *, silence_s: float) -> requests.Response:
        """Return the open response to a POST whose body may be silent for `silence_s` seconds."""
        limits = (self.call_s, self.call_s + silence_s)
        return _checked(self.client.post(self._url(place), json=body, stream=True, timeout=limits))

    def attached(self, id: str, params: Mapping[str, object]) -> Any:
        """Return the terminal of a container as what the docker package makes of a hijacked connection.

        Its own `attach_socket` waits for the answer without a limit.
        """
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        asked: Any = params
        answer = self.client.post(
            self._url(f"/containers/{id}/attach"),
            params=asked,
            headers=upgrade,
            stream=True,
            timeout=self.call_s,
        )
        client: Any = self.client  # it has no public way to what is below an answer
        return client._get_raw_response_socket(_checked(answer))

    def _url(self, place: str) -> str:
        return f"{self.client.base_url}/v{self.api_version}{place}"

    def _connect(self, version: str) -> docker.APIClient:
        tls = (
            docker.tls.TLSConfig(
                client_cert=(f"{certs}/cert.pem", f"{certs}/key.pem"), ca_cert=f"{certs}/ca.pem", verify=True
            )
            if (certs := os.environ.get("DOCKER_CERT_PATH")) and os.environ.get("DOCKER_TLS_VERIFY")
            else False
        )
        if self.is_local:
            _knock(self.address.removeprefix("unix://"), self.call_s)
        client = docker.APIClient(base_url=self.address, version=version, timeout=self.call_s, tls=tls)
        if self.is_local:
            client.mount("http+docker://", _Adapter(self.address.removeprefix("unix://"), self.call_s))
            client.trust_env = (
                False  # no proxy stands before a socket; looking for one is a third of a call's time
            )
        return client

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
            said = error.explanation or error
            if sandbox:
                raise SandboxLost(f"{self.name} could not {what} {sandbox}: {said}") from error
            raise StartFailed(f"{self.name} could not {what}: {said}") from error
        except (requests.RequestException, DockerException, OSError) as error:
            if sandbox:
                raise SandboxLost(f"{self.name} stopped answering ({what} {sandbox}): {error}") from error
            found = f"{self.name} at {self.address} does not answer ({what}): {error}."
            raise RuntimeUnavailable(f"{found} {self.advice}") from error


class _Connection(UnixHTTPConnection):
    """As the docker package's, which leaves a socket that cannot connect to the collector."""

    def connect(self) -> None:
        connecting = socket.socket(socket.AF_UNIX)
        try:
            connecting.settimeout(self.timeout)
            connecting.connect(self.unix_socket)
        except BaseException:
            connecting.close()
            raise
        self.sock = connecting


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        limit: Any = self.timeout
        return _Connection(self.base_url, self.socket_path, limit)


class _Adapter(UnixHTTPAdapter):
    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        with self.pools.lock:
            if (pool := self.pools.get(url)) is None:
                pool = self.pools[url] = _Pool(
                    url, self.socket_path, self.timeout, maxsize=self.max_pool_size
                )
            return pool


class _Held:
    """A client that closes its connections when the thread that used it has ended."""

    def __init__(self, client: docker.APIClient):
        self.client, self.pid = client, os.getpid()

    def __del__(self) -> None:
        try:  # noqa: SIM105 - at the interpreter's end, contextlib and others may be gone already
            self.client.close()
        except Exception:
            pass


def remove(engine: Engine, id: str) -> bool:
    """Kill and remove a container with its volumes; returns once it is gone, False where somebody else removed it."""
    for tries_left in (2, 1, 0):
        try:
            engine.client.remove_container(id, force=True, v=True)
            return True
        except NotFound:
            try:
                engine.client.inspect_container(id)  # a proxy may have said so
            except NotFound:
                return False
        except APIError as error:
            if error.status_code == 409:  # somebody else's removal is under way
                with contextlib.suppress(NotFound):
                    engine.client.wait(id, timeout=engine.call_s, condition="removed")
                return False
            if not tries_left:
                raise
    return False


def _checked(answer: requests.Response) -> requests.Response:
    try:
        answer.raise_for_status()
    except requests.HTTPError as error:
        create_api_error_from_http_exception(error)  # raises
    return answer


def _knock(path: str, limit_s: float) -> None:
    """Raise OSError where nobody listens; the docker package would leave its own socket open then."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(limit_s)
        probe.connect(path)
