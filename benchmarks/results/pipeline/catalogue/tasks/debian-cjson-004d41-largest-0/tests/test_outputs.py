"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_largest_txt():
    body = Path('/app/answer/largest.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '1d4e1a86d794ba46dd4f9f1c8eebca53dfd5a9f22e5088cf028b324c9b2fda73'
