"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_largest_txt():
    body = Path('/app/answer/largest.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '86a872110eceb44f731fd75629df98d162d059572a6123a5c591045d17fd4ecf'
