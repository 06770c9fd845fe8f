"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_index_txt():
    body = Path('/app/answer/index.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'ef607d17fb4f95c2efde82248d1c7a065433a30f7f3384e5ffe8f8d1a37fd223'
