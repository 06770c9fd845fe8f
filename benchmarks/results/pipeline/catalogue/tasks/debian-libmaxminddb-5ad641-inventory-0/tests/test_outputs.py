"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_inventory_txt():
    body = Path('/app/answer/inventory.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '2fa32746bc0b6c64d1270176b9f0b339a060af6342ba1fc2f731932fd5abe94a'
