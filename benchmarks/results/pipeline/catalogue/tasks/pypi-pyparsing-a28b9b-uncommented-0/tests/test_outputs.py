"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_py():
    body = Path('/app/answer/plain.py').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '692333a6e98b1e073e4f9d1293808ff6e66b92f38fb995ad99eff431c814b9e5'
