"""docker-py as most scripts use it: a container that sleeps, and `exec_run` for each command."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import docker

from benchmarks.speed.peers import work
from benchmarks.speed.peers.wire import serve


class DockerPy:
    """`exec_run` in a sleeping container."""

    def __init__(self, image: str):
        self._image = image
        self._client = docker.from_env()

    def reset(self) -> Any:
        """Return a started container that has run a first command."""
        made = self._client.containers.run(self._image, ["sleep", "infinity"], detach=True, init=True)
        made.exec_run(["true"])
        return made

    def step(self, container: Any, command: str) -> str:
        """Return what the command printed."""
        return str(container.exec_run(["bash", "-c", command]).output.decode())

    def verify(self, container: Any) -> bool:
        """Put the tests in and run pytest."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, text in work.test_files().items():
                entry = tarfile.TarInfo(f"tests/{name}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        container.put_archive("/", packed.getvalue())
        return bool(container.exec_run(["bash", "-c", work.PYTEST]).exit_code == 0)

    def close(self, container: Any) -> None:
        """Kill and remove it."""
        container.remove(force=True)


if __name__ == "__main__":
    import sys

    serve(DockerPy(sys.argv[1]))
