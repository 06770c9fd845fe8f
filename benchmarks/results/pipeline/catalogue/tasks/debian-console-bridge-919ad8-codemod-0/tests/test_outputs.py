"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_quality_declaration_md():
    body = Path('/app/answer/QUALITY_DECLARATION.md').read_bytes()
    assert hashlib.sha256(body).hexdigest() == 'd70f85a175b5dcb20000cd2ff5121a3e13e2439ddfe651354e90ffbb00ef5222'
