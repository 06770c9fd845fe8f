"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_suffixes_txt():
    body = Path('/app/answer/suffixes.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'dc1f0619ede8ff051f7d9db2b5a317714e6b3444cd72e76ca80fdca58b6512e8'
