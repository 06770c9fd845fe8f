"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAST_LINE = {
    "branching.py": "the parent is at step 2 in /tmp/work",
    "demo.py": "6 episodes in",
    "own_agent.py": "failed 0.0 3 steps",
}


def test_every_example_is_known() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(LAST_LINE)


@pytest.mark.docker
@pytest.mark.parametrize("name", sorted(LAST_LINE))
def test_it_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / name)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert LAST_LINE[name] in ran.stdout.splitlines()[-1]
