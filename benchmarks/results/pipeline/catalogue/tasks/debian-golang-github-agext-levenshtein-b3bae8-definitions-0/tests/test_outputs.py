"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_names_txt():
    body = Path('/app/answer/names.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'f606156a33b1229c955e656761fcbbe199f7781f5a8073af53c4dd7f1a447bc6'
