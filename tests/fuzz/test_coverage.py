"""Where bytes are parsed: inputs found by coverage, for `TGYM_FUZZ_S` seconds a target (60). Only with `-m whole`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kit import fuzz_targets
from kit.trajectories import DONE

SEEDS = {
    "screen": b"\x1b[1;31mtext\x1b[m\r\n\x1b[?1049h\x1b[2J",
    "replies": DONE.encode(),
    "record": fuzz_targets.RECORD,
    "artifacts": fuzz_targets.LAYER,
    "signed_report": b'{"status": "reported", "report": {"items": []}}',
    "foreign_report": b"=== short test summary info ===\nPASSED a::b\n",
}


@pytest.mark.whole
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted(fuzz_targets.TARGETS))
def test_found_by_coverage(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    (tmp_path / "seed").write_bytes(SEEDS.get(name, fuzz_targets.LAYER))
    argv = [
        sys.executable,
        "-m",
        "kit.coverage_guided",
        name,
        os.environ.get("TGYM_FUZZ_S", "60"),
        str(tmp_path),
    ]
    done = subprocess.run(argv, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    fell = [path.read_bytes() for path in tmp_path.glob("fell-*")]
    assert (done.returncode, fell) == (0, []), done.stderr[-4000:]
