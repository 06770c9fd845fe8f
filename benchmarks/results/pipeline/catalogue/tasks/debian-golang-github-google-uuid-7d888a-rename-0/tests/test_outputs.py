"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path


def test_node_net_go():
    body = Path('/app/answer/node_net.go').read_bytes()
    assert hashlib.sha256(body).hexdigest() == '76e73d44ac1eafcf5e42b5fa492ad1dacda911181729e7538eb2b9d06218e248'
