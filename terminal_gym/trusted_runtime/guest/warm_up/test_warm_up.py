"""Run by the judge's child before it has anything to judge."""


def test_warm_up() -> None:
    assert [1 + 1] == [2]
