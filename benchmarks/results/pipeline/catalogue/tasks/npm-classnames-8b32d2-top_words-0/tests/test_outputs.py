"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_words_txt():
    body = Path('/app/answer/words.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '37ac06143bd81daa02514e469288e758089fa03cc95e3f1939c842e0186566ce'
