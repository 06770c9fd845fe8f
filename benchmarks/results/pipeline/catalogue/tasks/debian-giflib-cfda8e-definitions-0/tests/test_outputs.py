"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_names_txt():
    body = Path('/app/answer/names.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'e4a31fbd6c593e2acff74e99f46e65107a2c15f23ffaf40bd32149b0226d50dc'
