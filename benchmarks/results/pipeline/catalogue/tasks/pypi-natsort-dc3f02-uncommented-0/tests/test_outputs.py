"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_py():
    body = Path('/app/answer/plain.py').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '4d28783d03dfd39b2608090d846ea0a71f5e86dcdcf56db498c7e6407d932b12'
