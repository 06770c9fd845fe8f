"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_common_py():
    body = Path('/app/answer/common.py').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '2e2d0f0bc2853e5e7cbcdeecd693d82051446caca2d1b0d201259edd9169c6d8'
