"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_largest_txt():
    body = Path('/app/answer/largest.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'e757a279cce25eef32022f7a3fad9ee2bf75565803d9f7c1d818796903fe765e'
