"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_outline_txt():
    body = Path('/app/answer/outline.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '37c0c61a64c68570f739be1558ba62809b04fc6c29618120a4eab9e4a62a2592'
