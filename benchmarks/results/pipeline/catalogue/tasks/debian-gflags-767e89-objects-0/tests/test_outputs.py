"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_objects_txt():
    body = Path('/app/answer/objects.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '2d4ebe6b1e9f9b9c240d191fdb9e28b1c655a41e3da9fe8775bcada8834cbf35'
