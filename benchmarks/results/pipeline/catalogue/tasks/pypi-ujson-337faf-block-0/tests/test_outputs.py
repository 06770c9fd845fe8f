"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_block_txt():
    body = Path('/app/answer/block.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'ba9fb3fad02f06ec74d45c2609cf6515b336df0a77c91cdfe32376032bc6be6d'
