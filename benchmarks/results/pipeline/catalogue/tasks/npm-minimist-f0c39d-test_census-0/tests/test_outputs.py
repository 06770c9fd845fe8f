"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_tests_txt():
    body = Path('/app/answer/tests.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '6a1144ab1c788c48e80ab77ab67d3703f08cd274d76ae75c04c9065ad50e5f5a'
