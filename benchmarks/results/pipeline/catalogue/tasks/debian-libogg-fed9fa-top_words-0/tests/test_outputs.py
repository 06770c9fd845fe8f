"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_words_txt():
    body = Path('/app/answer/words.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '084312117a0d6fb18d82c603c1919eb98db244f86819240f5b657cd9d67d89f5'
