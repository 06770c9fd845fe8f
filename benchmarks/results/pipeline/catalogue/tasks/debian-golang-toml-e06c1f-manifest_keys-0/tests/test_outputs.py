"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_keys_txt():
    body = Path('/app/answer/keys.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '9850382f22ec8fbbfd2618ce227ddb90489dc47c40751a2ea8a2c93e2341b1c0'
