"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_shared_txt():
    body = Path('/app/answer/shared.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '44ce1b270063d024303a6d1172516879892caaf85fca69e6ba15054d292595ea'
