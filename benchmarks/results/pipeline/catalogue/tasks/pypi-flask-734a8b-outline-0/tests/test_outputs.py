"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_outline_txt():
    body = Path('/app/answer/outline.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '31c5ffac91ea9a9c1639d7de626ae68c48437884ab60574f8b05bc2b191e3ae5'
