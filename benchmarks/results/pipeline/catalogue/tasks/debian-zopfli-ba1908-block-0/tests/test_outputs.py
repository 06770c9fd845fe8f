"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_block_txt():
    body = Path('/app/answer/block.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '8b714ef84be543bfe2d6bb57b044676baf2478d59fea880bd2e256d0c53a2143'
