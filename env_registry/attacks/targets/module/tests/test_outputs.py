from tg_remote import Remote

answer = Remote("/app/answer.py", timeout_s=5.0)


def test_small() -> None:
    assert answer.total(19, 23) == 42


def test_large() -> None:
    assert answer.total(123456, 654321) == 777777
