"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sums_txt():
    body = Path('/app/answer/sums.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '59fe4c46d7041cbc2eaa6dbb2443e8f93b1b3c5d231cb8d1eb5efb21c1473489'
