"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_which_txt():
    body = Path('/app/answer/which.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '70f0286d3af66c8b454b1e584a2f59c8c85daf07cac1de5864a1aa7d037933b0'


def test_last_txt():
    body = Path('/app/answer/last.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'e083f27f4a3c31cdc28cdcdb96064c8da83657a71aff76d044aab38e5c1701d4'
