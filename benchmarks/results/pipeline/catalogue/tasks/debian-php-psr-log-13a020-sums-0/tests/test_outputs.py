"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sums_txt():
    body = Path('/app/answer/sums.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '5248a57b70686db7eb7e4f25e309396e28805f6598da7fefbc3fc419cc6f58c4'
