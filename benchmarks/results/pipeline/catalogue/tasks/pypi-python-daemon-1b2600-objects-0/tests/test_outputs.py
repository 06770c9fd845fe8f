"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_objects_txt():
    body = Path('/app/answer/objects.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '52883d13feae8cb21353f0db2919c569ea3f83353ca296bf099864e73a22f82d'
