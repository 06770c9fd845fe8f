"""Harbor: its Docker environment (a compose project) and the tmux session of its Terminus-2, without the recorder.

Runs inside the harness image.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from harbor.agents.terminus_2.tmux_session import TmuxSession
from harbor.environments.docker.docker import DockerEnvironment
from harbor.models.task.config import EnvironmentConfig
from harbor.models.trial.paths import EnvironmentPaths, TrialPaths

from benchmarks.speed.peers import work
from benchmarks.speed.peers.wire import serve


class Harbor:
    """The environment with a prebuilt image, and the session."""

    def __init__(self, image: str, folder: str):
        self._image, self._folder = image, Path(folder)
        self._definition = self._folder / "environment"
        self._definition.mkdir(exist_ok=True)
        (self._definition / "Dockerfile").write_text(f"FROM {image}\n", "utf-8")
        logging.disable(logging.CRITICAL)

    async def reset(self) -> Any:
        """Return a started environment with its session."""
        name = f"tgym-speed-{uuid.uuid4().hex[:12]}"
        paths = TrialPaths(trial_dir=self._folder / name)
        paths.mkdir()
        made = DockerEnvironment(
            environment_dir=self._definition,
            environment_name="speed",
            session_id=name,
            trial_paths=paths,
            task_env_config=EnvironmentConfig(docker_image=self._image),
        )
        await made.start(force_build=False)
        session = TmuxSession(
            session_name="agent",
            environment=made,
            logging_path=EnvironmentPaths.agent_dir / "terminus_2.pane",
            local_asciinema_recording_path=None,
            remote_asciinema_recording_path=None,
        )
        await session.start()
        return made, session, name

    async def step(self, made: Any, command: str) -> str:
        """Send keys, wait for the command by tmux's own channel, and capture the pane."""
        await made[1].send_keys([command, "Enter"], block=True)
        return str(await made[1].capture_pane())

    async def terminus(self, made: Any, command: str) -> str:
        """Send keys, let 0.1 s pass, and read the incremental output, as Terminus-2 does."""
        await made[1].send_keys([command, "Enter"], block=False, min_timeout_sec=0.1)
        return str(await made[1].get_incremental_output())

    async def verify(self, made: Any) -> bool:
        """Upload the tests and run pytest."""
        await made[0].upload_dir(work.TESTS, "/tests")
        return bool((await made[0].exec(work.PYTEST)).return_code == 0)

    async def close(self, made: Any) -> None:
        """Take the compose project down, as after a trial."""
        await made[0].stop(delete=True)

    async def drop(self, made: Any) -> None:
        """Kill the container first, so that taking the project down need not wait for a deaf PID 1."""
        label = f"label=com.docker.compose.project={made[2]}"
        held = subprocess.run(
            ["docker", "ps", "-q", "--filter", label], capture_output=True, text=True, check=False
        )
        subprocess.run(["docker", "kill", *held.stdout.split()], capture_output=True, check=False)
        await made[0].stop(delete=True)


if __name__ == "__main__":
    serve(Harbor(*sys.argv[1:3]))
