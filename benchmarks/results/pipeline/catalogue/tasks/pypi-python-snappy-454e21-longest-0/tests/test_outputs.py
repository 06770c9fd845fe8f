"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '05d66670d249b8af5d923ccce0550d11752b76641505fc2a9d4cb0927aeb92ee'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'f6a19befc7a2d76ec648dcc8c5a469632e4cf46cdbacfb0170ab16c3ae4f679e'
