"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_index_txt():
    body = Path('/app/answer/index.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'c61792746c7bde411e7d6d6114fb03281f654f7315dda0c9af96e7532da0bb44'
