"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_js():
    body = Path('/app/answer/plain.js').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '22b066e173444cd8e9d540196ce0c28ce0bcde64ae96434898434010f5667eb0'
