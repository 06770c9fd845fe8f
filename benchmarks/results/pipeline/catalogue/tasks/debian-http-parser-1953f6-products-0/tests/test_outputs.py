"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_products_txt():
    body = Path('/app/answer/products.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'a3a36e37046477eef82322a0a7f7afac8f9eb70f2de130c98bc2d4807a6764a5'
