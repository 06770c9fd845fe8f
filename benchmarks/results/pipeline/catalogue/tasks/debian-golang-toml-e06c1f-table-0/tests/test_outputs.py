"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_table_csv():
    body = Path('/app/answer/table.csv').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '08244bc499889b125b95aff8ce37c343cedcc0415376e6cabce47e8a85e3bfd0'
