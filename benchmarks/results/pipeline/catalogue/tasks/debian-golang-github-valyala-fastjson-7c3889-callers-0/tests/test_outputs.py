"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_callers_txt():
    body = Path('/app/answer/callers.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '9f00eeea5776802abba9fc8f7718f1fb1efb575303fba81faa7d99b32d573c95'
