"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_toml():
    body = Path('/app/answer/plain.toml').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'b2b5944540929debac6c576dbb23fd465b21afe9a7a9963a8a77b9e87d98605d'
