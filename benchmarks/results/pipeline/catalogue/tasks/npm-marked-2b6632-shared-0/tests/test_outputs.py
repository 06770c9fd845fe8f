"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_shared_txt():
    body = Path('/app/answer/shared.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '1dfd2631e214047cdbbf83d654b7344a28aee3fd598191422fd5a3940612e589'
