"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_index_txt():
    body = Path('/app/answer/index.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '8a4fdec36b1bb5f6c05bf3742ed07fa8ff4d618c02847bba7cbc1419f666a52f'
