"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_constants_txt():
    body = Path('/app/answer/constants.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '4e3c125639bd66e067012afd1ecd44805bc41bcf29a7c5bc132e1159dcfc76e4'
