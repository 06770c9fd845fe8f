"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_block_txt():
    body = Path('/app/answer/block.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '1aee491e4498b5979ee0c44c293c066d9f95a3aa144de5199c9239465cf0b70a'
