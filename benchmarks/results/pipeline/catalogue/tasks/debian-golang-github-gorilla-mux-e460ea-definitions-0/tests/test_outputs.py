"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_names_txt():
    body = Path('/app/answer/names.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '7589ba15cba896bcf93b6f6323bc0fb00a10180af431c34ceeeae19c668cbd5d'
