"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_sh():
    body = Path('/app/answer/plain.sh').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'ffabce8fac608a295649b4620c29b039fab5e296a5c32bd7ba9f8a4980688926'
