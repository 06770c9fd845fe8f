"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sums_txt():
    body = Path('/app/answer/sums.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '1c941e1c86119f912536838ff155bbb5e657f0f88d725d5af430b8ad14af4456'
