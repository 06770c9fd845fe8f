"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_py():
    body = Path('/app/answer/plain.py').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '94fe813bdbda51074124f63bf53c7ed412b299204969bc61a7ad9e0a87397d14'
