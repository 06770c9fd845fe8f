"""The program runs on the pristine machine, on numbers drawn here."""

import random
import subprocess


def run(numbers):
    given = " ".join(map(str, numbers))
    command = ["python3", "/app/pocket.py", "/app/reverse.hex"]
    ran = subprocess.run(command, input=given, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 0, "it did not end with HALT"
    return [int(line) for line in ran.stdout.split()]


def expected(numbers):
    return [len(numbers), max(numbers, default=0), sum(numbers) % 256, *reversed(numbers)]


def drawn(seed):
    rng = random.Random(seed)
    return [rng.randrange(256) for _ in range(rng.randint(2, 31))]


def test_count_largest_and_sum():
    for seed in range(8):
        assert run(drawn(seed))[:3] == expected(drawn(seed))[:3]


def test_the_numbers_come_back_in_reverse():
    for seed in range(8, 16):
        assert run(drawn(seed)) == expected(drawn(seed))


def test_the_edges():
    for numbers in ([], [0], [255], [0, 0, 0], [255] * 32, list(range(32)), [128, 127], [1, 0, 255, 0]):
        assert run(numbers) == expected(numbers)
