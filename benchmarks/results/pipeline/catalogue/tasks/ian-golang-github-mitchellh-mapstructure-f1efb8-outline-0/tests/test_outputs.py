"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_outline_txt():
    body = Path('/app/answer/outline.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '850a44ed2f37e468388d37249958d200620b61dfbede9015c4eb7599fc80b21a'
