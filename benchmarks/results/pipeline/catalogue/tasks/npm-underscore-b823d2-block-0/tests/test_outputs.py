"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_block_txt():
    body = Path('/app/answer/block.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'e8b3a0557ff7da78a4d00ee96df8f9bf5b8b680302713b0f30f3c197d498fa2a'
