"""`tgym view` as a person starts it: an address, a page, Ctrl-C."""

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from kit.trajectories import trajectory

from terminal_gym.trajectory.store import RunWriter

TGYM = Path(sys.executable).with_name("tgym")


def test_served_until_interrupted(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", {}) as run:
        run.append(trajectory())
    argv = [TGYM, "view", str(tmp_path / "run"), "--no-open"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        url = command.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{url}api/run", timeout=20) as answer:
            assert b'"finished":1' in answer.read()
        command.send_signal(signal.SIGINT)
        _, complaints = command.communicate(timeout=20)
    assert command.returncode == 0, complaints
    assert "Traceback" not in complaints


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", {}):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        argv = [TGYM, "view", str(tmp_path / "run"), "--no-open", "--port", port]
        refused = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert port in refused.stderr
    assert "--port" in refused.stderr
