"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_index_txt():
    body = Path('/app/answer/index.txt').read_bytes()
    assert hashlib.sha256(b"\n".join(body.splitlines())).hexdigest() == 'd907b0fb0d10d93ae1b8e7aa677be28fb4b258fed846f675b50813a1017850fc'
