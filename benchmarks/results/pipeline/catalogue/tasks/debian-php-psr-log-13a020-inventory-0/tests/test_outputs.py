"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_inventory_txt():
    body = Path('/app/answer/inventory.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '9ca9e0666fa686c98b12c3f646fcb8d8d428b4a9d4ef7f8f1c250aae717be0f6'
