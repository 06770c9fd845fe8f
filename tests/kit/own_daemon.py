"""A Docker Engine of a test's own, beside the machine's: it may be stopped, started and killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from kit.waiting import wait_until

FOLDER = "tgym-dockerd-"  # and then who started it
_UP_S = 60.0


class OwnDaemon:
    """A dockerd with its own data, socket and runtime folder; no bridge, no firewall rules.

    In a network namespace of its own: a daemon without a bridge removes `docker0` where it finds one, and with it the
    network of the machine's own Engine.

    Args:
        options: Further words of its command line.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
        self._folder.chmod(0o755)  # a remapped root passes through it
        self.socket, self._log = self._folder / "docker.sock", self._folder / "log"
        self.address = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def why_not() -> str:
        """Return why none can be started here, "" where one can be tried."""
        if os.geteuid():
            return "a second dockerd needs root"
        missing = [name for name in ("dockerd", "runc", "unshare") if not shutil.which(name)]
        return f"there is no {missing[0]}" if missing else ""

    def start(self) -> bool:
        """Start it; returns whether it answers."""
        folder = self._folder
        words = ["--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("unshare", "--net", "dockerd", "-H", self.address),
                    *words,
                    *self._options,
                    "--bridge=none",
                    "--iptables=false",
                    "--ip6tables=false",
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return wait_until(self._answers_or_ended, deadline_s=_UP_S) and self._process.poll() is None

    def _answers_or_ended(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return True
        with socket.socket(socket.AF_UNIX) as ask, contextlib.suppress(OSError):
            ask.settimeout(5)
            ask.connect(str(self.socket))
            ask.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in ask.recv(100)
        return False

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """Stop it as a service manager does: its containers are killed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self._folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)
