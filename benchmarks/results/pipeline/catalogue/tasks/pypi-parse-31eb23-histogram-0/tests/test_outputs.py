"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_histogram_txt():
    body = Path('/app/answer/histogram.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'c380c8631119d92aaf1029797bbbbbd2bbacb6418384459bbd3d9b9f0d270751'
