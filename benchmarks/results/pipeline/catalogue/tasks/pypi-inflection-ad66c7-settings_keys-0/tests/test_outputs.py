"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sections_txt():
    body = Path('/app/answer/sections.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '3062688cb86ce9078ebe7309e6b47ade59c10be8572a72c8ab2863b9b8b1393f'
