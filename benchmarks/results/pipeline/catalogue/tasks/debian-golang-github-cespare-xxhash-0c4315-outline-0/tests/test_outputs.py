"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_outline_txt():
    body = Path('/app/answer/outline.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'fede483b5f03a9410e5f4f4aee0740e2d4a585b332de169b310893e0eaf00a46'
