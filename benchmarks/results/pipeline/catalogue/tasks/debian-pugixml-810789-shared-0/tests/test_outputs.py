"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_shared_txt():
    body = Path('/app/answer/shared.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'ae42ec55b7f83382856679ccf467e1f796f86f456dee2f2e5eafdba91eb9b2bf'
