"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_inventory_txt():
    body = Path('/app/answer/inventory.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '06bd9c3096e972670ec8b6585c921da19831f50a2107213ae2558d6f5fb79238'
