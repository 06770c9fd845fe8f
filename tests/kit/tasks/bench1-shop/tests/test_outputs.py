from pathlib import Path
from urllib.request import urlopen


def test_most():
    assert Path("/app/most.txt").read_text().strip() == "pears"


def test_asked_seldom():
    assert 1 <= int(urlopen("http://shop:8000/log", timeout=10).read()) <= 5
