"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_objects_txt():
    body = Path('/app/answer/objects.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'a499637224b5c7f6d7e79b209a5f9e42d78aa33081ffe63a41e598f191003c64'
