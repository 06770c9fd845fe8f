"""The work that every contender does, in the same words for all. Standard library only."""

from __future__ import annotations

import base64
from pathlib import Path

STEP = "echo hi"
SAID = "hi"
SOLUTION = "mkdir -p /app; printf 'hello, world\\n500500\\n' > /app/greeting.txt"
TESTS = Path(__file__).parents[1] / "task" / "tests"
PYTEST = "cd / && PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python3 -m pytest -q -p no:cacheprovider /tests"
_DONE = "flood-42-done"


def flood(megabytes: int) -> str:
    """Return the command that prints so many million bytes in lines of 100, and a last line that it did not type."""
    return f"head -c {megabytes}000000 /dev/zero | tr '\\0' x | fold -w 100; echo; echo flood-$((6*7))-done"


def flooded(output: str) -> bool:
    """Whether `output` holds the last line of a flood."""
    return _DONE in output


def test_files() -> dict[str, str]:
    """Return the two-test validator by name."""
    return {path.name: path.read_text("utf-8") for path in sorted(TESTS.glob("test_*.py"))}


def put_tests(folder: str = "/tests") -> str:
    """Return the command that writes the validator into `folder`, for contenders that cannot upload."""
    lines = [f"mkdir -p {folder}"]
    for name, text in test_files().items():
        lines.append(f"echo {base64.b64encode(text.encode()).decode()} | base64 -d > {folder}/{name}")
    return "; ".join(lines)
