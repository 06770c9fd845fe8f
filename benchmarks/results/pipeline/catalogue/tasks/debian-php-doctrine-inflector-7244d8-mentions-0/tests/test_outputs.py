"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_mentions_txt():
    body = Path('/app/answer/mentions.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '3bb51486a9fa8666fea68c3209fc6681a05e87077b3608b4a428b1c2643a70ec'
