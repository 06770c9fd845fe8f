"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_objects_txt():
    body = Path('/app/answer/objects.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'a1c2a65347e0f224f961c8a6e4c11e806a9688608f4e0c8c30acc4be7c5588c1'
