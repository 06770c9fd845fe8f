"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_index_txt():
    body = Path('/app/answer/index.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '0a8cf4910b92c69486827b8339c66ebaa4a3708d9a1a12c4ff2484640084c4c8'
