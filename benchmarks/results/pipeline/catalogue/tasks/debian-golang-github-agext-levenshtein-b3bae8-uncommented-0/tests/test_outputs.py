"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_go():
    body = Path('/app/answer/plain.go').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'd16e21aae90893c33d2d4f4667ad4f9277196c71c4f15a12eeeee8d2e31ddcd7'
