"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_keys_txt():
    body = Path('/app/answer/keys.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'dd28057c4a0e3b449ab7b9f180273287bfe5d51dc044bf17fdf40f7c86af8d05'
