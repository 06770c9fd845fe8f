"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_tests_txt():
    body = Path('/app/answer/tests.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '450b1854bd0fbcaacd6d4296101e94b1bc8c2eec3071f2f465fbf4157c20009e'
