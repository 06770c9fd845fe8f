"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sums_txt():
    body = Path('/app/answer/sums.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'de0cbf7dcc34d0e9376274afbc94b81e0da2daf0613fe53b56285a8b37e8cc87'
