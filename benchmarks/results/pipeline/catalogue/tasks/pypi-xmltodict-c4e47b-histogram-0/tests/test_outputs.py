"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_histogram_txt():
    body = Path('/app/answer/histogram.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == '3e3d668bef571f49b61c7c709b50b9a11898c4aa6a457a4aeaa1dcd415900c42'
