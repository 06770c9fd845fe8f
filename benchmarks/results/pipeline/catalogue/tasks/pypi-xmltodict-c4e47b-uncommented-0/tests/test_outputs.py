"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_plain_toml():
    body = Path('/app/answer/plain.toml').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '255866a03d30479a688bae700341737c83311de457b6eda6c88fc45c02a0a6d6'
