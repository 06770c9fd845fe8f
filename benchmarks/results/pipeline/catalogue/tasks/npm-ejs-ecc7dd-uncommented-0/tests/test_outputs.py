"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_js():
    body = Path('/app/answer/plain.js').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '9a37def38efcd20d8eff7f58f70c82b2b6365c5b79feaa08ce173135f49fb265'
