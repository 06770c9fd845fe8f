"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_mentions_txt():
    body = Path('/app/answer/mentions.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '1d26e7c82fa736b7ce67d3d65fb6043f82f5aa6c7a3da7b277e899b1bc89caaf'
