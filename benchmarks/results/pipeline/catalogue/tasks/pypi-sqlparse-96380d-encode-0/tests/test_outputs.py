"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_packed_txt():
    body = Path('/app/answer/packed.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'c970633046884e84d21ee59f655ffcedb9bd16aa9e450af9e548ac8e937aca3e'
