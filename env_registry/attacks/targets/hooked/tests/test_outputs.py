from pathlib import Path

WORD = "quicksilver-7301-heron"


def test_the_word() -> None:
    assert Path("/app/answer.txt").read_text("utf-8").split() == [WORD]
