"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_table_csv():
    body = Path('/app/answer/table.csv').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'dbbb159121baca5a6c9784c6fc1ad29d50191c22c7307961240209ea10f145af'
