"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '47f2aa69e3e98cce58c747fce22e51d5d6a8e9e83df530dcb30b4de679f117d5'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '81a320e17a065b24aa14d30f8e7078a546584f571bc316200a892bc218621ebc'
