"""A Ray cluster of two nodes, lent to a test; see ray_cluster.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


class RayCluster:
    """Two nodes in processes of their own; `kill` lets the second die."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))]
        pipe = subprocess.PIPE
        with log.open("w") as stderr:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, text=True)
        self.address = self._process.stdout.readline().strip()  # type: ignore[union-attr]
        if not self.address:
            self.close()
            pytest.skip(f"Ray gave its nodes 30 s, three times, and none came up: {log.read_text()[-300:]}")

    def kill(self) -> None:
        self._process.stdin.write("kill\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        assert self._process.stdout.readline() == "killed\n"  # type: ignore[union-attr]

    def close(self) -> None:
        self._process.communicate(timeout=60)
