"""terminal-bench: a compose project for each environment and a tmux session inside, as its own harness drives them.

Without its recorder, which would cost it three seconds a start. Runs inside the harness image.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from terminal_bench.terminal.terminal import Terminal

from benchmarks.speed.peers import work
from benchmarks.speed.peers.wire import serve

_COMPOSE = """services:
  client:
    image: ${T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME}
    container_name: ${T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME}
    command: ["sh", "-c", "sleep infinity"]
    environment: ["TEST_DIR=${T_BENCH_TEST_DIR}"]
    volumes:
      - ${T_BENCH_TASK_LOGS_PATH}:${T_BENCH_CONTAINER_LOGS_PATH}
"""


class TerminalBench:
    """Its Terminal and its TmuxSession; the image is there, so nothing is built."""

    def __init__(self, image: str, folder: str):
        self._image, self._folder = image, Path(folder)
        self._compose = self._folder / "terminal-bench.yaml"
        self._compose.write_text(_COMPOSE, "utf-8")
        logging.disable(logging.CRITICAL)

    def reset(self) -> Any:
        """Return a terminal with its session."""
        name = f"tgym-speed-{uuid.uuid4().hex[:12]}"
        logs = Path(tempfile.mkdtemp(dir=self._folder))
        made = Terminal(
            name,
            self._image,
            self._compose,
            sessions_logs_path=logs,
            no_rebuild=True,
            disable_recording=True,
        )
        made.start()
        return made, made.create_session("agent"), name

    def step(self, made: Any, command: str) -> str:
        """Send keys, wait for the command by tmux's own channel, and capture the pane."""
        made[1].send_keys([command, "Enter"], block=True)
        return str(made[1].capture_pane())

    def terminus(self, made: Any, command: str) -> str:
        """Send keys, let 0.1 s pass, and read the incremental output, as Terminus-2 does."""
        made[1].send_keys([command, "Enter"], block=False, min_timeout_sec=0.1)
        return str(made[1].get_incremental_output())

    def verify(self, made: Any) -> bool:
        """Copy the tests in, and run pytest in a session of its own, as its harness does."""
        made[0].copy_to_container(sorted(work.TESTS.glob("test_*.py")), container_dir="/tests")
        session = made[0].create_session("tests")
        session.send_keys([f"({work.PYTEST}); echo said-$?", "Enter"], block=True)
        return "said-0" in session.capture_pane(capture_entire=True)

    def close(self, made: Any) -> None:
        """Take the compose project down."""
        made[0].stop()

    def drop(self, made: Any) -> None:
        """Kill the container first, so that taking the project down need not wait for a deaf PID 1."""
        subprocess.run(["docker", "kill", made[2]], capture_output=True, check=False)
        made[0].stop()


if __name__ == "__main__":
    serve(TerminalBench(*sys.argv[1:3]))
