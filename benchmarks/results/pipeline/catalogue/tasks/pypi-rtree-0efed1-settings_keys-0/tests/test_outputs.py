"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sections_txt():
    body = Path('/app/answer/sections.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '4f8d2ce7db3889e39bfccba7726458f7a19a820faa0f444557df6b4cc632ceba'
