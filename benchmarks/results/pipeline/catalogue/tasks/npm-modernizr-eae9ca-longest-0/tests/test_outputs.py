"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '3013d3287294c29f44bf9f46515dc9511a14584b88791cc463e26bbb07b73184'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '29576b54e255e3c948eea5b5904fa38b81682fdd3cbd9ae841ff0e7bd80d394c'
