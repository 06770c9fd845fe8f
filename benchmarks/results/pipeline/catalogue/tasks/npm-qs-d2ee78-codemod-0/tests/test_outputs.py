"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_eslint_config_mjs():
    body = Path('/app/answer/eslint.config.mjs').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '88c15392cd1251a7a7fee8332a7d9f6a43e9a4f939a6167f6c6c2d9675f5f424'
