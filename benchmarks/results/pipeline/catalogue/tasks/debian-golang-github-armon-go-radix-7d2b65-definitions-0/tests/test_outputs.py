"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_names_txt():
    body = Path('/app/answer/names.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '304e42b29633552b853b5b32ccd7671dc66ddd368a55c3bbbbc07f0b99908b45'
