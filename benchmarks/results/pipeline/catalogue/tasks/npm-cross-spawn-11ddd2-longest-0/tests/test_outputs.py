"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '84a7e8f00f3f95ff89d3ae426157edfad85f0ad2b789c04ef6cad73185dd0f5d'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '4397d7b476640b1e9cfc063b05b5305ed383ad65e4444c2deedf47f9eea89850'
