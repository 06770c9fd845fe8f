"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_number_words_py():
    body = Path('/app/answer/number_words.py').read_bytes()
    assert hashlib.sha256(body).hexdigest() == 'c16307438c2355c198f367e04d63c33ce9b7fe5647e818802efdbe3e657d23a9'
