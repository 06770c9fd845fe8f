"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_shared_txt():
    body = Path('/app/answer/shared.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '13b9cc6e1370acfefa46f6643c9505fc5659b14648db41c9f0386ad7d6ce9fea'
