"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_go():
    body = Path('/app/answer/plain.go').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '262bd5b2154ee06ce6e31982030e75b8719a8f2f249fa3cafbc53423be632fbc'
