"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_imports_txt():
    body = Path('/app/answer/imports.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'ccd182d0c4fb02e4311aafeb0e0832f65313814e48a56cc5ff351c96c8f3056a'
