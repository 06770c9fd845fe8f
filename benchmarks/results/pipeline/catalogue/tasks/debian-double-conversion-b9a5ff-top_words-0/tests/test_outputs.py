"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_words_txt():
    body = Path('/app/answer/words.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '465695d39e17e6c34f5cdc87bc857b7b3eeb50da7762b1ef49c9f4ab804ece9f'
