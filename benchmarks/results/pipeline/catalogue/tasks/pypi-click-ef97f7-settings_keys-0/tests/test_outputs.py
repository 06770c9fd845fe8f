"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sections_txt():
    body = Path('/app/answer/sections.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '433b3f2d6db1e0eb1344eb379b14fd0a799665c6e91300c23a1286890ff0bda7'
