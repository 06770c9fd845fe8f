"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_keys_txt():
    body = Path('/app/answer/keys.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '4cc4db44c194f5f07c35a8c0e18e7606917b91e9a2e6b063bed54f8ca94e0c09'
