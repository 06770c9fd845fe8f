"""The logbook is played again by the pristine game."""

import subprocess
from pathlib import Path

LOGBOOK = Path("/app/logbook.txt")


def test_the_logbook_is_a_game():
    moves = LOGBOOK.read_text("utf-8").splitlines()
    assert 20 <= len(moves) <= 120
    assert all(move.strip() for move in moves)


def test_the_lamp_burns():
    played = subprocess.run(
        ["python3", "/app/lighthouse.py"], input=LOGBOOK.read_bytes(), capture_output=True, timeout=20
    )
    assert b"The lamp of Orrin burns." in played.stdout
    assert played.returncode == 0
