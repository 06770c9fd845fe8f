"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_package_json():
    body = Path('/app/answer/package.json').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '7578e3e74d91eed55031130c90fdbc8514c6212b0fe858bd01bcb91ac68919ed'
