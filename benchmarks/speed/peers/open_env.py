"""OpenEnv: a server inside the container, started by its local Docker provider and driven over a WebSocket."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any

from openenv.core.containers.runtime import LocalDockerProvider
from openenv.core.generic_client import GenericEnvClient

from benchmarks.speed.peers import work
from benchmarks.speed.peers.wire import serve


class OpenEnv:
    """Its generic client; the server's action is a shell command."""

    def __init__(self, image: str):
        self._image = image

    async def reset(self) -> Any:
        """Return a client that is connected and reset."""
        provider = LocalDockerProvider()
        try:
            made = await GenericEnvClient.from_docker_image(self._image, provider=provider)
            await made.reset()
        except BaseException:
            with contextlib.suppress(Exception):
                provider.stop_container()
            raise
        return made, provider

    async def step(self, made: Any, command: str) -> str:
        """Return what the command printed."""
        return str((await made[0].step({"command": command})).observation["output"])

    async def verify(self, made: Any) -> bool:
        """Write the tests by a command, since it has no upload, and run pytest by another."""
        await made[0].step({"command": work.put_tests()})
        return bool((await made[0].step({"command": work.PYTEST})).observation["exit_code"] == 0)

    async def close(self, made: Any) -> None:
        """Close the client, which stops and removes the container."""
        await made[0].close()

    async def drop(self, made: Any) -> None:
        """Remove the container without grace."""
        container = made[1]._container_id
        await made[0].disconnect()
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=True)


if __name__ == "__main__":
    serve(OpenEnv(sys.argv[1]))
