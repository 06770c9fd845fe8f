"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_packed_txt():
    body = Path('/app/answer/packed.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'd3444cc0b57d49df0be4d320dd3821554d9efb555efc3b598bc5bed4819afafe'
