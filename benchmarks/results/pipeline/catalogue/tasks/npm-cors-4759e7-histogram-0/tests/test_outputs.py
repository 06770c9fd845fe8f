"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_histogram_txt():
    body = Path('/app/answer/histogram.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'd0ca46f30f630e9a5f7d0e7b92b433570fefa13ddf5b1b84a7cf1fa3231e5e3e'
