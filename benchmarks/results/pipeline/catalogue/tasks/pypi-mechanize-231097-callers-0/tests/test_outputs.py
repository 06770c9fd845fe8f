"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_callers_txt():
    body = Path('/app/answer/callers.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '520414df9a2445c18af3c89779b97c4e45b5174284fe2ef5a1cce8b54395c6ca'
