"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_callers_txt():
    body = Path('/app/answer/callers.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'b217a57bba0da04215c58e7d38080b223af71afe5fcff0f1c29c0b10cdefdfba'
