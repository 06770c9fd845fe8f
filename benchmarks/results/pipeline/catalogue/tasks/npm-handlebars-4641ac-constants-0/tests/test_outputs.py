"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_constants_txt():
    body = Path('/app/answer/constants.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '374ef72a590935056fa71450547417a66a9d719d73733e6c9fcaa4b5113c7bb6'
