"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_imports_txt():
    body = Path('/app/answer/imports.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '4ec0f5d77683aca609d97caf5d9b972dd85baf394abc5fb563f0c3b629be9ccb'
