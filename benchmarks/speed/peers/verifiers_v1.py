"""verifiers: the Docker runtime of its v1 interface, `docker exec` for each command."""

from __future__ import annotations

import logging
import sys
from typing import Any

from verifiers.v1.runtimes.docker import DockerConfig, DockerRuntime

from benchmarks.speed.peers import work
from benchmarks.speed.peers.wire import serve


class VerifiersV1:
    """Its DockerRuntime, unrestricted network, as it comes."""

    def __init__(self, image: str):
        self._image = image
        logging.disable(logging.CRITICAL)

    async def reset(self) -> Any:
        """Return a started runtime that has run a first command."""
        made = DockerRuntime(DockerConfig(image=self._image))
        await made.start()
        await made.run(["true"], {})
        return made

    async def step(self, made: Any, command: str) -> str:
        """Return what the command printed."""
        return str((await made.run(["bash", "-c", command], {})).stdout)

    async def verify(self, made: Any) -> bool:
        """Write the tests and run pytest."""
        await made.run(["mkdir", "-p", "/tests"], {})
        for name, text in work.test_files().items():
            await made.write(f"/tests/{name}", text.encode())
        return bool((await made.run(["bash", "-c", work.PYTEST], {})).exit_code == 0)

    async def close(self, made: Any) -> None:
        """Stop it, which removes the container."""
        await made.stop()


if __name__ == "__main__":
    serve(VerifiersV1(sys.argv[1]))
