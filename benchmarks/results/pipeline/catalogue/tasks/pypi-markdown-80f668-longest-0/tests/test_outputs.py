"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '68013fa15db73d63f915292748ab91450e4e3e581bc76893c11b95c1b03f6967'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '2b582e395d96241aaf39ad2bb5c7f62200a609d9341c0fe160dbd16460d85253'
