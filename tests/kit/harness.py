"""The official harnesses in their image: made once a machine, and given tasks, keys and a folder to work in."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.parity import harness, official
from benchmarks.parity.cases import Format


@dataclass(frozen=True)
class Stage:
    """Cases laid out for a harness."""

    root: Path
    tasks: Path
    keys: Path

    def run(self, *argv: str, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
        """Run a command of the harness image in a folder of its own."""
        work = self.root / "work"
        work.mkdir(exist_ok=True)
        return harness.run(argv, work=work, tasks=self.tasks, keys=self.keys, timeout_s=timeout_s)

    def results(self, job: str) -> dict[str, dict[str, Any]]:
        """Task → Harbor's own result of its one trial."""
        paths = (self.root / "work" / job).glob("*/result.json")
        told = [json.loads(path.read_text("utf-8")) for path in paths]
        return {one["task_name"].rpartition("/")[2]: one for one in told}


def stage(root: Path, format: Format, names: Sequence[str]) -> Stage:
    """Lay out the cases of these names below `root`."""
    tasks, keys = official.lay(format, root, names)
    return Stage(root, tasks, keys)
