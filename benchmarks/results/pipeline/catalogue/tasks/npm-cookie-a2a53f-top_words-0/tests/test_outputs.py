"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_words_txt():
    body = Path('/app/answer/words.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '16705acaa3631970d646b332f9d42fe74aab48c4a1b911d2e1ec0375e33de633'
