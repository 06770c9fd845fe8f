"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '0ee295c29def16f570f86378eff8ba37315e464d415e731d5d8ea2e67ce16f68'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'eb13da4a5a1a4f2a9ac1a6323e6937af4a755dfdc3514c6117443de207e34269'
