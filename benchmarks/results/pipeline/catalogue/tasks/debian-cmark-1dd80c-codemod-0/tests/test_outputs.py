"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_houdini_h():
    body = Path('/app/answer/houdini.h').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '75442e8646a2e991d720d3e07d3dcd521dc7ab649bb34b3616ea78225916de21'
