"""The presses are made again on the pristine switchboard."""

import subprocess
from pathlib import Path

PRESSES = Path("/app/presses.txt")


def test_presses_are_presses():
    presses = PRESSES.read_text("utf-8").splitlines()
    assert 1 <= len(presses) <= 60
    assert set(presses) <= set("123456789")


def test_all_lamps_are_dark():
    assert PRESSES.stat().st_size > 0
    board = ["python3", "/app/switchboard.py", "--check", str(PRESSES)]
    assert subprocess.run(board, timeout=20).returncode == 0
