"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_tests_txt():
    body = Path('/app/answer/tests.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'c04476eda4c55dd3120df25b6f94b0c225b2d1f63caacb70632f99653691fc6f'
