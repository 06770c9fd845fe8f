"""The desk, asked over the loopback while it runs. Every test brings books of its own."""

import http.client
import json
import random
import socket
import threading
from urllib.parse import quote

DESK = ("127.0.0.1", 8080)


def ask(method, path, body=None, raw=None):
    """Return (status, decoded body) of one request."""
    connection = http.client.HTTPConnection(*DESK, timeout=10)
    try:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.getheader("Content-Type", "").startswith("application/json")
        return answer.status, json.loads(content)
    finally:
        connection.close()


def fresh_isbn():
    return f"999-{random.randrange(10**12):012}"


def new_book(author="Nobody"):
    isbn = fresh_isbn()
    book = {"title": "A Title", "author": author}
    assert ask("PUT", f"/books/{isbn}", book) == (201, {"isbn": isbn, **book, "lent_to": None})
    return isbn


def test_the_desk_is_open():
    assert ask("GET", "/health") == (200, {"status": "open"})


def test_books_are_found():
    status, books = ask("GET", "/books")
    isbns = [book["isbn"] for book in books]
    assert status == 200
    assert isbns == sorted(isbns)
    fog = {"isbn": "978-0-00-000002-8", "title": "A Short History of Fog", "author": "Brother Anselm", "lent_to": None}
    assert fog in books
    assert ask("GET", "/books/978-0-00-000002-8") == (200, fog)
    assert ask("GET", "/books?author=Brother%20Anselm") == (200, [fog])
    assert ask("GET", "/books?author=Brother") == (200, [])


def test_books_are_put_on_the_shelf():
    author = f"Þóra & Søn {random.randrange(10**9)}"
    isbns = sorted(new_book(author) for _ in range(3))
    status, mine = ask("GET", f"/books?author={quote(author)}")
    assert (status, [book["isbn"] for book in mine]) == (200, isbns)
    assert ask("POST", f"/books/{isbns[0]}/lend", {"reader": "Ines"})[0] == 200
    changed = {"isbn": isbns[0], "title": "Another", "author": author, "lent_to": "Ines"}
    assert ask("PUT", f"/books/{isbns[0]}", {"title": "Another", "author": author}) == (200, changed)
    assert ask("GET", f"/books/{isbns[0]}") == (200, changed)


def test_books_are_lent_and_returned():
    reader = f"Tomé {random.randrange(10**9)}"
    isbns = sorted(new_book() for _ in range(2))
    assert ask("GET", f"/readers/{quote(reader)}") == (200, {"reader": reader, "books": []})
    for isbn in reversed(isbns):
        status, book = ask("POST", f"/books/{isbn}/lend", {"reader": reader})
        assert (status, book["lent_to"]) == (200, reader)
    assert ask("GET", f"/readers/{quote(reader)}") == (200, {"reader": reader, "books": isbns})
    assert ask("POST", f"/books/{isbns[0]}/lend", {"reader": "Ines"})[0] == 409
    status, book = ask("POST", f"/books/{isbns[0]}/return")
    assert (status, book["lent_to"]) == (200, None)
    assert ask("POST", f"/books/{isbns[0]}/return")[0] == 409
    assert ask("GET", f"/readers/{quote(reader)}") == (200, {"reader": reader, "books": isbns[1:]})


def test_mistakes_are_told_apart():
    isbn, missing = new_book(), fresh_isbn()
    assert ask("POST", f"/books/{isbn}/lend", {"reader": "Ines"})[0] == 200
    wrong = [
        ("GET", f"/books/{missing}", None, 404), ("POST", f"/books/{missing}/return", None, 404),
        ("POST", f"/books/{missing}/lend", b"{", 404), ("GET", "/", None, 404), ("GET", "/books/a/b/c", None, 404),
        ("POST", f"/books/{isbn}/lend", b'{"reader": ""}', 400), ("POST", f"/books/{isbn}/lend", b"[]", 400),
        ("POST", f"/books/{isbn}/lend", b'{"reader": 7}', 400), ("POST", f"/books/{isbn}/lend", b"not json", 400),
        ("PUT", f"/books/{missing}", b'{"title": "x"}', 400), ("PUT", f"/books/{missing}", b"\xff\xfe", 400),
        ("PUT", f"/books/{missing}", b'{"title": "x", "author": null}', 400),
        ("DELETE", f"/books/{isbn}", None, 405), ("POST", "/books", b"{}", 405), ("PUT", "/health", b"{}", 405),
        ("GET", f"/books/{isbn}/lend", None, 405), ("POST", "/readers/Ines", b"{}", 405),
    ]
    for method, path, raw, status in wrong:
        got, answer = ask(method, path, raw=raw)
        assert got == status, f"{method} {path} {raw}"
        assert isinstance(answer["error"], str)
        assert answer["error"]
    assert ask("GET", f"/books/{missing}")[0] == 404
    assert ask("GET", "/health")[0] == 200


def test_a_book_is_never_lent_twice():
    for _ in range(5):
        isbn, statuses = new_book(), []
        gate = threading.Barrier(8)

        def borrow(name):
            gate.wait(timeout=10)
            statuses.append(ask("POST", f"/books/{isbn}/lend", {"reader": name})[0])

        readers = [threading.Thread(target=borrow, args=(f"reader {n}",)) for n in range(8)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout=20)
        assert sorted(statuses) == [200] + [409] * 7


def test_a_silent_client_keeps_nobody_waiting():
    with socket.create_connection(DESK, timeout=10), socket.create_connection(DESK, timeout=10) as half:
        half.sendall(b"GET /health HT")
        assert ask("GET", "/health") == (200, {"status": "open"})
