"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_mentions_txt():
    body = Path('/app/answer/mentions.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'a4d3550305e9e547bddc40c57e2792cce48a59a40f3bcbaf002ff4c8b4b6a9e3'
