"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_shared_txt():
    body = Path('/app/answer/shared.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '761a95719e1efef03d09b4b0fd4f35c7c04985e13ed45126c88f62f1b7bcce6d'
