"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_suffixes_txt():
    body = Path('/app/answer/suffixes.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '8898ded1dad642e16d017e567234458106244cac608ef1ae4c3c535c3fb250b9'
