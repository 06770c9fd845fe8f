"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_names_txt():
    body = Path('/app/answer/names.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '8c1a5000625add6cf028c00276ef51d7d60e174e53f0a5dbb20b4c2613e3ac38'
