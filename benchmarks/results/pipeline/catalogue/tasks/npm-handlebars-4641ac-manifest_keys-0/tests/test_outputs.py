"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_keys_txt():
    body = Path('/app/answer/keys.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'fd5e96fbc133d1d5942a937db6da8d091c7669ad2840ec7e758a88f5330fef5d'
