"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_words_txt():
    body = Path('/app/answer/words.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'ec295acb0540ea7c84efccae507b3e9558fe64c6d25fe6cbf8c2593792e99a05'
