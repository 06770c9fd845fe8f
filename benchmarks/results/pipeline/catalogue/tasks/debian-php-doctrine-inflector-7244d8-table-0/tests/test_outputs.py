"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_table_csv():
    body = Path('/app/answer/table.csv').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '99ba5e8d20af92d7170a9f7662cfb0dbd13d64cd2d833b40b3267d15f836a574'
