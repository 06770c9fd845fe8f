"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_pack_c():
    body = Path('/app/answer/pack.c').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '008071633b19bf3e2d5d6b4279483e8a9e07fbc4ccfefd783b58e56b5ae805bc'
