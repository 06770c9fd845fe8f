"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_histogram_txt():
    body = Path('/app/answer/histogram.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '5f6acf52ae4fcc9156dd790eb0be8fca45ed45ec6c1271d80eaef14dcd3ef756'
