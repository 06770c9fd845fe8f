"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_callers_txt():
    body = Path('/app/answer/callers.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '6fa7b21624343929e21c21cdbb308b28e338bfda827bb828ffafef0f99f98487'
