"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_packed_txt():
    body = Path('/app/answer/packed.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'f68844baccc244d252a1393a546a546675952ee90e23b8d7622aefadb2f2da11'
