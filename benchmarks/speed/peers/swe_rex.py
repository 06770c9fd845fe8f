"""SWE-ReX: its server inside the container, one bash session driven over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from swerex.deployment.docker import DockerDeployment
from swerex.runtime.abstract import BashAction, Command, CreateBashSessionRequest, UploadRequest

from benchmarks.speed.peers import work
from benchmarks.speed.peers.wire import serve


class SweRex:
    """A deployment with a session; a step is `run_in_session`."""

    def __init__(self, image: str):
        self._image = image
        logging.disable(logging.CRITICAL)

    async def reset(self) -> Any:
        """Return a deployment whose session is open."""
        made = DockerDeployment(image=self._image, pull="never")
        try:
            await made.start()
            await made.runtime.create_session(CreateBashSessionRequest(startup_source=[]))
        except BaseException:
            with contextlib.suppress(Exception):
                await made.stop()
            raise
        return made

    async def step(self, made: Any, command: str) -> str:
        """Return what the command printed in the session."""
        seen = await made.runtime.run_in_session(BashAction(command=command, timeout=60.0, check="silent"))
        return str(seen.output)

    async def verify(self, made: Any) -> bool:
        """Upload the tests and run pytest beside the session."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in work.test_files().items():
                (Path(folder) / name).write_text(text, "utf-8")
            await made.runtime.upload(UploadRequest(source_path=folder, target_path="/tests"))
        ran = await made.runtime.execute(Command(command=["bash", "-c", work.PYTEST], timeout=120.0))
        return bool(ran.exit_code == 0)

    async def close(self, made: Any) -> None:
        """Stop the deployment, and wait until its container is gone."""
        name = made.container_name
        await made.stop()
        while True:
            asked = await asyncio.create_subprocess_exec(
                "docker",
                "inspect",
                str(name),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            if await asked.wait():
                return


if __name__ == "__main__":
    serve(SweRex(sys.argv[1]))
