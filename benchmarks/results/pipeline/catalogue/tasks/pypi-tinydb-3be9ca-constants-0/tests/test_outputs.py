"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_constants_txt():
    body = Path('/app/answer/constants.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '00e4a1a8ea626a1373960a0c9f7cf2d69dfb042f14bd1154dc9b13ec4d0e9318'
