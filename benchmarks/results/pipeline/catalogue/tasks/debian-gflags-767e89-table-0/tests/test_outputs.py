"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_table_csv():
    body = Path('/app/answer/table.csv').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'e0e9e5215cc4e9b463a670bfdd6ff934706c0c3ec98e58c4e385dfaaec9b2933'
