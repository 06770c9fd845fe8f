"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_callers_txt():
    body = Path('/app/answer/callers.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '537d296f44a25bcaec06fd302f17ffb5a395047796af12ae49ea6f172f9a8474'
