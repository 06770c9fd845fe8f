"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_table_csv():
    body = Path('/app/answer/table.csv').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'bb29b4e2bc51e63a6448751aca12ce40ad23d5bc6e0d0662e2a62934af63bc0d'
