"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_py():
    body = Path('/app/answer/plain.py').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'd047794f03dd80a7b5d5d757dd0b4486b214669b445db55705412dc550b82a52'
