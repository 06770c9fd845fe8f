"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_debug_c():
    body = Path('/app/answer/debug.c').read_bytes()
    assert hashlib.sha256(body).hexdigest() == 'e6113a06e70841ddb174b56c31a81c8c12e628b623db61d12cbfba433e653909'
