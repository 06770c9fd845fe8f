"""Records what terminal-bench's own parsers make of 4,000 outputs, in the image of the official harnesses.

    python tests/golden/record_parsers.py

`parsers.json.gz` holds a list of `{"parser", "text", "found"}`; `found` is test name → whether it passed, null where
the official parser raises. Needs Docker, and minutes where the image is not made yet. The same outputs every time: a
file that changes shows that upstream did.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

from benchmarks.parity import harness
from benchmarks.parity.outputs import outputs

FILE = Path(__file__).with_name("parsers.json.gz")
COUNT, SEED = 4000, 1


def main() -> None:
    """Write the file anew."""
    asked = list(outputs(COUNT, seed=SEED))
    with tempfile.TemporaryDirectory(prefix="tgym-parsers-") as made:
        work, tasks = Path(made) / "work", Path(made) / "tasks"
        work.mkdir()
        tasks.mkdir()
        (work / "asked.json").write_text(json.dumps(asked), "utf-8")
        read = "python3 /harness/check/parse.py < asked.json > found.json"
        ran = harness.run(["sh", "-c", read], work=work, tasks=tasks, timeout_s=300.0)
        ran.check_returncode()
        found = json.loads((work / "found.json").read_text("utf-8"))
    told = [one | {"found": result} for one, result in zip(asked, found, strict=True)]
    FILE.write_bytes(gzip.compress(json.dumps(told).encode(), mtime=0))
    print(f"{len(told)} outputs, {sum(one is None for one in found)} of them refused: {FILE}")


if __name__ == "__main__":
    main()
