"""What the same work costs with nothing of ours in the way: the bare Engine API, and bare namespaces.

Each floor gives a live shell with no screen, no settle detection and no recording. They exist to be compared with
and promise nothing else.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import docker
import pexpect
from pexpect.socket_pexpect import SocketSpawn
from pexpect.spawnbase import SpawnBase

Spawn = TypeVar("Spawn", bound="SpawnBase[bytes]")
PROMPT = b"floor# "
SHELL = f"PS1='{PROMPT.decode()}' exec bash --norc --noprofile -i"


@contextmanager
def engine(client: docker.APIClient, image: str) -> Iterator[SpawnBase[bytes]]:
    """Create, attach, start with `--network none`; yields once the prompt is there."""
    made = client.create_container(
        image,
        ["bash", "-c", SHELL],
        name=f"tgym-floor-{uuid.uuid4().hex[:12]}",
        tty=True,
        stdin_open=True,
        host_config=client.create_host_config(network_mode="none"),
    )
    try:
        attached = client.attach_socket(made["Id"], {"stdin": 1, "stdout": 1, "stream": 1})
        raw: socket.socket = getattr(attached, "_sock", attached)
        client.start(made["Id"])
        stream: SocketSpawn[bytes] = tuned(SocketSpawn(raw, timeout=30))
        stream.expect_exact(PROMPT)
        yield stream
        attached.close()
        raw.close()
    finally:
        client.remove_container(made["Id"], force=True)


@contextmanager
def pty() -> Iterator[SpawnBase[bytes]]:
    """A shell on a local PTY, with no isolation at all; yields once the prompt is there."""
    stream: pexpect.spawn[bytes] = tuned(pexpect.spawn("bash", ["-c", SHELL], timeout=30))
    try:
        stream.expect_exact(PROMPT)
        yield stream
    finally:
        _end(stream)


@contextmanager
def namespaces(lower: Path = Path("/")) -> Iterator[SpawnBase[bytes]]:
    """unshare everything, mount an overlay, change root, exec the shell; yields once the prompt is there. Root only."""
    place = Path(tempfile.mkdtemp(prefix="tgym-floor-"))
    setup = (
        f"mount -t tmpfs tmpfs {place} && mkdir {place}/u {place}/w {place}/m && "
        f"mount -t overlay overlay -o lowerdir={lower},upperdir={place}/u,workdir={place}/w {place}/m && "
        f"mount -t proc proc {place}/m/proc && mount --rbind /dev {place}/m/dev && "
        f'exec chroot {place}/m /bin/bash -c "{SHELL}"'
    )
    argv = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", setup]
    stream: pexpect.spawn[bytes] = tuned(
        pexpect.spawn(
            "unshare", argv, timeout=30, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "xterm"}
        )
    )
    try:
        stream.expect_exact(PROMPT)
        yield stream
    finally:
        _end(stream)
        subprocess.run(["rmdir", str(place)], check=True)


def _end(stream: pexpect.spawn[bytes]) -> None:
    """Kill and reap it; pexpect's own close would try gentler signals first, with a tenth of a second after each."""
    stream.kill(signal.SIGKILL)
    stream.wait()
    stream.ptyproc.delayafterclose = 0  # type: ignore[attr-defined]  # its stubs leave it out
    stream.close()


def tuned(stream: Spawn) -> Spawn:
    """Return `stream` with pexpect's pauses taken out, so that the floor is the machine's and not pexpect's."""
    stream.delaybeforesend = None
    stream.delayafterclose = stream.delayafterterminate = 0
    stream.maxread = 131_072
    stream.searchwindowsize = 300
    return stream
