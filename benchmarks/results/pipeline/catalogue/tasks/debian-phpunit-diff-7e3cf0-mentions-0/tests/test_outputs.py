"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_mentions_txt():
    body = Path('/app/answer/mentions.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '76c287d721851a73fe6930773712efca1c596e99d08e1ada3196c8fc39ccafb6'
