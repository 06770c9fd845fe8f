"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_compat_py():
    body = Path('/app/answer/compat.py').read_bytes()
    assert hashlib.sha256(body).hexdigest() == 'ef2fa11279f09b47337137de69d9cd1a51595fcce644e8b07fb62275b593cbc6'
