"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_index_txt():
    body = Path('/app/answer/index.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'cc34c1e92f1e622ef8bd2c25fad161ef900ebdd02c175bbe993a335e495f1cb5'
