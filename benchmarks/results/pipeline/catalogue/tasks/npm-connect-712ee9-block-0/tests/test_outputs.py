"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_block_txt():
    body = Path('/app/answer/block.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '5520fafb3a620a84b9c0bad4b48fdab7e51b5c01d5055bab2d6b51cf27c901e6'
