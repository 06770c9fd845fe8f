"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_index_txt():
    body = Path('/app/answer/index.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '872ba083787f88acf494d0547a0d6822ccfb6bf0063436b6f1ecc43b703f05ed'
