"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_keys_txt():
    body = Path('/app/answer/keys.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '37dc8b47f3378f028e8f2eed1f407a5fb41fd39c372b8e26dd51428648d8ac19'
