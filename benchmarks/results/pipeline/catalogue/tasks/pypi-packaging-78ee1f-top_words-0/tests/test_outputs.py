"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_words_txt():
    body = Path('/app/answer/words.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'bd2b67c4fe3d65714d7395bb29a4d3e3215a5e2dfdb35c034d2790a2fa34a841'
