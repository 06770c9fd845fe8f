"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_keys_txt():
    body = Path('/app/answer/keys.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '09bb221c145a7622d5208158e1b115150756e33085d112008c661275b06c30fb'
