"""Imports what it judges, as tests should not: what that costs is what this target shows."""

import importlib.util

spec = importlib.util.spec_from_file_location("answer", "/app/answer.py")
answer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(answer)


def test_small() -> None:
    assert answer.total(19, 23) == 42


def test_large() -> None:
    assert answer.total(123456, 654321) == 777777
