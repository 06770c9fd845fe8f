"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sums_txt():
    body = Path('/app/answer/sums.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '2b4a2c8fd058452bea2a33f587f0c4752c0777618e52d71bb71b9bbea540b49d'
