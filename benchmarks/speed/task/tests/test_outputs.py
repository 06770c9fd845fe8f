from pathlib import Path

GREETING = Path("/app/greeting.txt")


def test_greeting() -> None:
    assert GREETING.read_text("utf-8").splitlines()[0] == "hello, world"


def test_sum() -> None:
    assert GREETING.read_text("utf-8").splitlines()[1:] == [str(sum(range(1, 1001)))]
