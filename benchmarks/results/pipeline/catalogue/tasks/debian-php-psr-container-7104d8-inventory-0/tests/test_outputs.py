"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_inventory_txt():
    body = Path('/app/answer/inventory.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'd2c4cd6f5ab5e91e1447d5bbfcff3448bb75981625e3e17667e4c93921e8c5d8'
