"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_suffixes_txt():
    body = Path('/app/answer/suffixes.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '4b9c041bfdf55d08d2d0e35af8d05afc80903c3d7464a1aee91fd449c9218f66'
