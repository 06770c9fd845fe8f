"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_table_csv():
    body = Path('/app/answer/table.csv').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '2c8230f00386c1c5db464de97d6c7234b9ebf54e5ad07eb23489872ab62a381f'
