"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_packed_txt():
    body = Path('/app/answer/packed.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '8f050d96c2d737675f8c0ccf0209c9390b892dfdb1b6e7b18c8f0710cd95633b'
