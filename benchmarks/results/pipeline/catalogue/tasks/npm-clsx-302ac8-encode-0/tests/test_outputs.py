"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_packed_txt():
    body = Path('/app/answer/packed.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'a647559f947f6531ccf64ffd86614c20cf0c4882a896fdef4860f115721342eb'
