"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_radix_test_go():
    body = Path('/app/answer/radix_test.go').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '91f658515cfe1a45303491a72fc6b82b714aad9bb2e33d463c609022045dfb8d'
