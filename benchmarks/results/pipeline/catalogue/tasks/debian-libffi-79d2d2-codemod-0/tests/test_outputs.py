"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_cls_many_mixed_args_c():
    body = Path('/app/answer/cls_many_mixed_args.c').read_bytes()
    assert hashlib.sha256(body).hexdigest() == 'ac0fe7cb18fe2388df6874cbffb42e6a1c523ff6df242ddf6f2b94211fe16676'
