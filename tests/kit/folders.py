"""Makes task folders for tests: a sound one, to which each test does one thing wrong."""

from __future__ import annotations

from pathlib import Path

YAML = """\
instruction: Write /app/out.txt.
difficulty: easy
"""
TESTS = """\
from pathlib import Path


def test_out():
    assert Path("/app/out.txt").read_text() == "done"
"""


def task_folder(root: Path, *, name: str = "demo", yaml: str = YAML, **files: str | bytes) -> Path:
    """Return a task folder; `files` replace or add, with `__` for `/` and `_dot_` for `.` in their names."""
    folder = root / name
    (folder / "tests").mkdir(parents=True)
    body: dict[str, str | bytes] = {
        "task.yaml": yaml,
        "Dockerfile": "FROM debian:bookworm\n",
        "tests/test_outputs.py": TESTS,
    }
    body |= {key.replace("__", "/").replace("_dot_", "."): value for key, value in files.items()}
    for path, text in body.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder
