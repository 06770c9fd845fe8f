"""The numbers open the pristine safe, and the deed is what was in it."""

import hashlib
import subprocess
from pathlib import Path

DEED = "c78a85d814f19c294df7f29e01f3b74557e54d95c791a1f32d36999489751046"  # sha256


def numbers():
    words = Path("/app/combination.txt").read_text("ascii").split()
    assert len(words) == 7
    assert all(0 <= int(word) <= 99 for word in words)
    return words


def test_the_combination_opens_the_safe():
    dialled = "\n".join(numbers()) + "\n"
    opened = subprocess.run(["/app/safe"], input=dialled.encode(), capture_output=True, timeout=10)
    assert opened.returncode == 0
    found = opened.stdout.split(b"In the drawer:\n\n", 1)[1]
    assert hashlib.sha256(found).hexdigest() == DEED


def test_the_deed_is_copied():
    assert hashlib.sha256(Path("/app/deed.txt").read_bytes()).hexdigest() == DEED
