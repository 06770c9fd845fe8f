"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sections_txt():
    body = Path('/app/answer/sections.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '8848b7af5f8042a571a476c351dd1b7fea2ba411ef532c814c7d32e02ffd40da'
