"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_mentions_txt():
    body = Path('/app/answer/mentions.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '14cd0ef42780432beb0308cbbc1ef598bd615be0557bc470d52904e52632a9ed'
