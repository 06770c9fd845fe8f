"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_mentions_txt():
    body = Path('/app/answer/mentions.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'c6c50ee1a47567c68766430157bc0713c4f1c56f11cba4400719ccbc01ec928f'
