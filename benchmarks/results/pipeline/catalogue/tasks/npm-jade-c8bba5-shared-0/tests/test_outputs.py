"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_shared_txt():
    body = Path('/app/answer/shared.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'a8e239cfa900b75cd156bcaf8299c7eb4ac849c5c6188208e33bff4f0c65d5f4'
