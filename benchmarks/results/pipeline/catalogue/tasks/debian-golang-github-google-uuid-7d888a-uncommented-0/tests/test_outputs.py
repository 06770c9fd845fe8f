"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_go():
    body = Path('/app/answer/plain.go').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'dc9a8bf8a7749da49130821e96c3cd0120981c8aacf807e3f57868d496214cd0'
