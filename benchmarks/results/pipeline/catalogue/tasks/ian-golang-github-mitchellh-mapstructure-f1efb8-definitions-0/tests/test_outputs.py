"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_names_txt():
    body = Path('/app/answer/names.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '340e1677bc579aafe22f1fc68039aff6328f8c9bb9ab2157adc0509d2a16c2dd'
