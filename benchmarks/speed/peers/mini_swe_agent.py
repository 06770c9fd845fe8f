"""mini-swe-agent: a container that sleeps, and `docker exec` for each command."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

from minisweagent.environments.docker import DockerEnvironment

from benchmarks.speed.peers import work
from benchmarks.speed.peers.wire import serve


class MiniSweAgent:
    """Its DockerEnvironment, as its agent drives it."""

    def __init__(self, image: str):
        self._image = image
        logging.disable(logging.CRITICAL)

    def reset(self) -> Any:
        """Return a started environment that has run a first command."""
        made = DockerEnvironment(image=self._image, cwd="/", timeout=120)
        made.execute({"command": "true"})
        return made

    def step(self, made: Any, command: str) -> str:
        """Return what the command printed."""
        return str(made.execute({"command": command})["output"])

    def verify(self, made: Any) -> bool:
        """Write the tests by a command, since it has no upload, and run pytest by another."""
        made.execute({"command": work.put_tests()})
        return bool(made.execute({"command": work.PYTEST})["returncode"] == 0)

    def close(self, made: Any) -> None:
        """Clean up, which goes on in the background, and wait until the container is gone."""
        container = made.container_id
        made.cleanup()
        subprocess.run(["docker", "wait", container], capture_output=True, check=False)
        made.container_id = None

    def drop(self, made: Any) -> None:
        """Remove it without the grace that its `docker stop` gives to a PID 1 which ignores the signal."""
        container, made.container_id = made.container_id, None
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=True)


if __name__ == "__main__":
    serve(MiniSweAgent(sys.argv[1]))
