"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_node_js():
    body = Path('/app/answer/node.js').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '132026726a79b5aa7486b5576dea2849f22a95cd370a2e869ec9874865a37b31'
