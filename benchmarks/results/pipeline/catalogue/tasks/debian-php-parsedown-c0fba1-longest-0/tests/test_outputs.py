"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'c42e9b9e6611dd69dcc3e82b5f9689556e68d55b0840edbffa12a4e39076410d'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '1fe76d6f9e6bcb754dd822ef01eb6e76013d2029d841d52b6a52c7b88a8c7593'
