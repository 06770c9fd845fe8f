"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'f116f3387f575e20abc3df81385fd16f1f2ab6401aa68201fc143aff999d8a17'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'df3982fd610173599241fca93c7c866683f58f541eced1c2098102145477164c'
