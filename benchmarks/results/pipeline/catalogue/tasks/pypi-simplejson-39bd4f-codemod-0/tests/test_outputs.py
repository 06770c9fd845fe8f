"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_readme_rst():
    body = Path('/app/answer/README.rst').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '206eca6635069463d8e730765fdcd5a7dae1abbd2a632676279df3495f9ddb98'
