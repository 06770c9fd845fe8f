"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_reader_h():
    body = Path('/app/answer/reader.h').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '04ae72ea865ba33b2dae3e644469b63a25d9a8000fee2a9cab9908c2774e9580'
