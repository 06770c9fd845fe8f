"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_objects_txt():
    body = Path('/app/answer/objects.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '59a1ba9069c7f41eff8d8f00c4b9bdba6a500194547ec21cccb2485941a8ded4'
