"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_imports_txt():
    body = Path('/app/answer/imports.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '0d47bd2965f083c3de768b955a5fee8fa8b0d1f795ee5c4367561ca42bf32f86'
