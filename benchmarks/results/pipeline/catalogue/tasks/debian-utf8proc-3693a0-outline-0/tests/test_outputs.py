"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_outline_txt():
    body = Path('/app/answer/outline.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '233dd938f12ae910fd572eb1261d7be836f6be6923480112b93d37937d4140f9'
