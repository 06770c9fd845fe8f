"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_table_csv():
    body = Path('/app/answer/table.csv').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'f99a2c50aeb14325e1de13fadc941f46515a6569d1aa2059c709cd2c590e01f6'
