"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_react_js():
    body = Path('/app/answer/react.js').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '83f6545938d9c6dd1cdef4bf5155ddd3edb65c6207e26cd57a8302bf3a4b6512'
