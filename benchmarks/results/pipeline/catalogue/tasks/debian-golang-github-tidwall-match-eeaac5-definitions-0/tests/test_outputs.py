"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_names_txt():
    body = Path('/app/answer/names.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '2bfb103abd298cdff1b18ee1e5efa8da83011067fb71a76ab4445bb2a2d35ba6'
