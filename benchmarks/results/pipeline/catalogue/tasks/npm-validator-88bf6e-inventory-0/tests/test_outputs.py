"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_inventory_txt():
    body = Path('/app/answer/inventory.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '0ee8ee3ae329f5395440bc5aaf337452a583d4b8954a5f5e3ffe70771c855725'
