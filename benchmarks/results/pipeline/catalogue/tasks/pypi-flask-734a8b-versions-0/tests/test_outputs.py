"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_versions_txt():
    body = Path('/app/answer/versions.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '2d9ff805938bdd1f2feb6e552ec611aa798fbdf3bd176b1b5b4b5251bd377f43'
