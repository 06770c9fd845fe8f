"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_constants_txt():
    body = Path('/app/answer/constants.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '782d5c2a1e273d1e18931f0a720b16af4ffad19fee9db8efb1eae92f288abe08'
