"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_products_txt():
    body = Path('/app/answer/products.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'f2b42377035aea3ce0ed9d4390df5efb87125342f56b981ef68548d28bc0424b'
