"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_example_test_go():
    body = Path('/app/answer/example_test.go').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '80cbf092ef71ac4ed48b3bc16dbbf38c300fe6648d7f705c1709aad4df04fc01'
