"""Inspect: its Docker sandbox, which is a compose project for each sample, and `exec` for each command."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from inspect_ai.util._sandbox.docker.cleanup import project_cleanup_startup
from inspect_ai.util._sandbox.docker.docker import DockerSandboxEnvironment

from benchmarks.speed.peers import work
from benchmarks.speed.peers.wire import serve

_COMPOSE = """services:
  default:
    image: {image}
    x-local: true
    init: true
    command: tail -f /dev/null
    network_mode: none
    stop_grace_period: 1s
"""


class InspectAi:
    """One sample's sandbox."""

    def __init__(self, image: str):
        self._folder = tempfile.TemporaryDirectory(prefix="tgym-inspect-")
        self._compose = Path(self._folder.name) / "compose.yaml"
        self._compose.write_text(_COMPOSE.format(image=image), "utf-8")
        self._begun = False

    async def reset(self) -> Any:
        """Return a sample's environments, the first of which has run a first command."""
        if not self._begun:
            project_cleanup_startup()
            self._begun = True
        made = await DockerSandboxEnvironment.sample_init("speed", str(self._compose), {})
        await made["default"].exec(["true"])
        return made

    async def step(self, made: Any, command: str) -> str:
        """Return what the command printed."""
        return str((await made["default"].exec(["bash", "-c", command])).stdout)

    async def verify(self, made: Any) -> bool:
        """Write the tests and run pytest."""
        for name, text in work.test_files().items():
            await made["default"].write_file(f"/tests/{name}", text)
        return bool((await made["default"].exec(["bash", "-c", work.PYTEST])).success)

    async def close(self, made: Any) -> None:
        """Clean the sample up, as after an uninterrupted one."""
        await DockerSandboxEnvironment.sample_cleanup("speed", str(self._compose), made, False)


if __name__ == "__main__":
    serve(InspectAi(sys.argv[1]))
