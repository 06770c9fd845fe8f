"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_words_txt():
    body = Path('/app/answer/words.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '08feed5d3bf3c448cd0ae3ff5a82587ef100f874e0e3ce96a5555bd2ec3994e6'
