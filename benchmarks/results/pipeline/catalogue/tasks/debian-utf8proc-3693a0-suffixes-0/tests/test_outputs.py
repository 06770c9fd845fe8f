"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_suffixes_txt():
    body = Path('/app/answer/suffixes.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '60b037d2930cd91992dc2e530b546ef9655687adeb8899b3d2b41e7cb0fbc180'
