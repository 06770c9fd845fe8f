"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_shared_txt():
    body = Path('/app/answer/shared.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'dcd407e54e7314e856cf7c11f1429742b0a29b62678cb5cd12497cefa66d55cf'
