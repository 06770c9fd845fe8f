"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_index_txt():
    body = Path('/app/answer/index.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '659b293efa7dfa169a230a7730a91ea8af24367f1237f73180c4064b2f0d8228'
