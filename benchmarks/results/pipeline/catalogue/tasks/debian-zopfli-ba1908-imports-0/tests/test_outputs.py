"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_imports_txt():
    body = Path('/app/answer/imports.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '7ed9a331485ea5a213dddbefa9fc34d2a78dfd65eb3d10c549760c982abc6981'
