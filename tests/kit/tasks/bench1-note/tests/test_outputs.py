import os
import stat
from pathlib import Path

import pytest

NOTE = Path("/app/note.txt")


def test_words():
    assert NOTE.read_text() == "three herons\n"


def test_mode():
    assert stat.S_IMODE(NOTE.stat().st_mode) == 0o600


@pytest.mark.skipif(not os.environ.get("TEST_DIR"), reason="asks for what the harness sets")
def test_directory_of_tests():
    assert Path(os.environ["TEST_DIR"]).name == "tests"
