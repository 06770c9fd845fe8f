"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_block_txt():
    body = Path('/app/answer/block.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '50b6c6878c7b62a6a9a1e38585e5c64fe367a25889c548e533447ae22351623e'
