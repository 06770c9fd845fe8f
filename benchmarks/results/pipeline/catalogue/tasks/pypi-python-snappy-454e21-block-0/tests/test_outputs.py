"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_block_txt():
    body = Path('/app/answer/block.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '8c98c7c9ea40c3420ac5c68025eecadffede5ed6b4ec3e03cfbfb0c7f3094368'
