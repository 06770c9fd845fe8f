"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_constants_txt():
    body = Path('/app/answer/constants.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '507b57a8ce45a252de8c268c03a9abebbbb65f649865060b449e59e2c86091e9'
