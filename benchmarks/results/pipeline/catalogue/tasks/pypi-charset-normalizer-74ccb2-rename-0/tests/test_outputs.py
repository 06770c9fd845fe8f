"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_backend_py():
    body = Path('/app/answer/backend.py').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '6a8cf5e51cfef21d712fce1d635fa535ba2e7f855d57b09a24ca5b7d9576e33b'
