"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sums_txt():
    body = Path('/app/answer/sums.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '3d50faae2a8ffffca6d9b67ffa68652dbb23f1ef60b023a2c84d0553e9340144'
