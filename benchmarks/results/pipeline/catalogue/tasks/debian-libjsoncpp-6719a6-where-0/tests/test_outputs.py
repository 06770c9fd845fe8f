"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_index_txt():
    body = Path('/app/answer/index.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '66dee634c4b64d1bd0d4109ac4e25966ce1b1c08779a3b6972e54a82bda43bcf'
