"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_outline_txt():
    body = Path('/app/answer/outline.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '217366309fccf9b3d7c8359c0ea87855faa467ce084f4423753e1fb9aedfcb00'
