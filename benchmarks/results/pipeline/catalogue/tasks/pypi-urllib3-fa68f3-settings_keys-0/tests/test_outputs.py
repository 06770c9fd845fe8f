"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sections_txt():
    body = Path('/app/answer/sections.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '744eb4174a7a8bf1b632a1193cd4d1210d8a14cbdeb611bf3a337f0d178d7846'
