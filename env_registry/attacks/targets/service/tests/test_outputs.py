import http.client
import random


def test_sums() -> None:
    for _ in range(3):
        a, b = random.randrange(1, 10**6), random.randrange(1, 10**6)
        asked = http.client.HTTPConnection("127.0.0.1", 8077, timeout=3)
        asked.request("GET", f"/{a}/{b}")
        assert asked.getresponse().read().split() == [str(a + b).encode()]
        asked.close()
