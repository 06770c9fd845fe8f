"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '0fb5e1ff6f8a69885b0c591690951aa932bdf0037566d18fc1c21520d3dc7b7a'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '5d7d91560403533f8c5be1fe0754e7b83b2092d26810ce969b5d7c8e2e8774d2'
