"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_imports_txt():
    body = Path('/app/answer/imports.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'f5142df81586342158e1cf6cf07982ebb8cb566c5a50231fceda7ad1b96f8f28'
