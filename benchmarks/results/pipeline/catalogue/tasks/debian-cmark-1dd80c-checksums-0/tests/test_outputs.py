"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sums_txt():
    body = Path('/app/answer/sums.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'bf726cb9331029834f0dd2150fcc27b21e1f3ab0bda7282a46e07871c1870484'
