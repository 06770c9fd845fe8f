"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_largest_txt():
    body = Path('/app/answer/largest.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '7cd17bd7e48bd190124c403eda63a0be1d6270e058823f16e7eb9764ed41b1bc'
