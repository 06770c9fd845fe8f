"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_versions_txt():
    body = Path('/app/answer/versions.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '76b4885a7a56813dd6bcc7c45788bb5506d6d2770edb8f0fca87149a4abbc154'
