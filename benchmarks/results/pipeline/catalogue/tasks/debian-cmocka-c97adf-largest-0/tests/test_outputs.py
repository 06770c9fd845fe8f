"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_largest_txt():
    body = Path('/app/answer/largest.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'c58a2154257f361e42b48a87d7ad60954e760c74b7f7cdd24870bce4659cf28d'
