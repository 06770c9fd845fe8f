"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_shared_txt():
    body = Path('/app/answer/shared.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '2841b528644f360b56c1a16b483c93298d9dde929eaa9085de9daea9e7bffbd7'
