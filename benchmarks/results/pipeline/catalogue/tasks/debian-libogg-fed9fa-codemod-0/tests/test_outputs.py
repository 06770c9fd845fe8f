"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_oggpack_writetrunc_html():
    body = Path('/app/answer/oggpack_writetrunc.html').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '38c32a0381f58298836e0e9932538d8d6c83bed3d5722c4c7d5bed3d58967f3b'
