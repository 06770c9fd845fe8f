"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '3af64912db13fc8977072e0c3b5b1e88b07db9933f5ccb21b3f6006cbb0ce531'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'df3982fd610173599241fca93c7c866683f58f541eced1c2098102145477164c'
