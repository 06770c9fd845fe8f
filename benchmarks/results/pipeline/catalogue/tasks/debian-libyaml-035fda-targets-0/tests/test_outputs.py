"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_targets_txt():
    body = Path('/app/answer/targets.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '455a76abef563070b3e1ee8419b90603852a46c6558a0f6088b53873084dc34e'
