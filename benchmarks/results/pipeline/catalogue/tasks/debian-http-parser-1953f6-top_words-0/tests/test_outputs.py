"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_words_txt():
    body = Path('/app/answer/words.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '07e504ddc899e75363c6a4a37aa8b99a3e02258077ff3e186d94f153e4a9a01e'
