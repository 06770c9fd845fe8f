"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_histogram_txt():
    body = Path('/app/answer/histogram.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '7cd217480d67f0e338aa97c5237919a03bf72ca8ba2359eeb3d1b7139d87195f'
