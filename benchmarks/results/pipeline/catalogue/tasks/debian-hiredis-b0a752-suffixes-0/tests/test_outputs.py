"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_suffixes_txt():
    body = Path('/app/answer/suffixes.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '31c37eb9bad13b7984953f324d8715ca391b723d29044427fc786ea43a9a4820'
