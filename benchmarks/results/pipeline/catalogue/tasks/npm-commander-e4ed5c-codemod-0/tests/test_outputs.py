"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_package_json():
    body = Path('/app/answer/package.json').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '879de2196b5799b580298abef045ad077ef1263157a943f7f4954175800c02da'
