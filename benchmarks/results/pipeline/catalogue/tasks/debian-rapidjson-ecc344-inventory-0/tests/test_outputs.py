"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_inventory_txt():
    body = Path('/app/answer/inventory.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'd27f5811e1c3d6e66c7511ed2c8766cac6146bea5c3bb6a8399f685a0bf5d2db'
