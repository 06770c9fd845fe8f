"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_words_txt():
    body = Path('/app/answer/words.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'f7eabe5c7dc224dfb547a28aead6e888f1ed4b9c5ac1ca44968c6966272f2276'
