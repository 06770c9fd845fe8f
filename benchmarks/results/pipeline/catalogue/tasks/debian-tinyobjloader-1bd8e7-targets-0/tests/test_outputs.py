"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_targets_txt():
    body = Path('/app/answer/targets.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '5f2f5cc49dccd8a2b3ef2760d2f83302a7d105d2705f90338d25a0d68d954cce'
