"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_table_csv():
    body = Path('/app/answer/table.csv').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '8ccf3fb1fc7db3fad4441d656247af3508b222b721161e8d1f2b5af5ceb088d1'
