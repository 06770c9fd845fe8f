"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_inventory_txt():
    body = Path('/app/answer/inventory.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'faa75bf32ff9117e2405cb16f839277da71df65f165b24bd3950ad0196b06e66'
