"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_sections_txt():
    body = Path('/app/answer/sections.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '7523874857e44072110f28b037b3cf88d6733ed01462d8b822b5a051f9220d99'
