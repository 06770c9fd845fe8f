#!/bin/bash
# Serves one client after the other: whoever connects and says nothing holds up the queue.
set -eu
cat > /app/desk.py <<'PYTHON'
"""The lending library's desk. See API.md."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BOOKS = {book["isbn"]: {**book, "lent_to": None} for book in json.load(open("/app/books.json", encoding="utf-8"))}
LOCK = threading.Lock()


class Wrong(Exception):
    pass


def words(body, *names):
    """The named fields of the body, each a non-empty string."""
    try:
        given = json.loads(body)
    except ValueError:
        raise Wrong(400, "not JSON")
    if not isinstance(given, dict) or not all(isinstance(given.get(n), str) and given[n] for n in names):
        raise Wrong(400, f"needed: {', '.join(names)}")
    return [given[name] for name in names]


def book_of(isbn):
    if isbn not in BOOKS:
        raise Wrong(404, "no such book")
    return BOOKS[isbn]


def health(query, body):
    return 200, {"status": "open"}


def books(query, body):
    wanted = query.get("author")
    return 200, [BOOKS[isbn] for isbn in sorted(BOOKS) if not wanted or BOOKS[isbn]["author"] == wanted[0]]


def book(query, body, isbn):
    return 200, book_of(isbn)


def put(query, body, isbn):
    title, author = words(body, "title", "author")
    status = 200 if isbn in BOOKS else 201
    BOOKS.setdefault(isbn, {"isbn": isbn, "lent_to": None}).update(title=title, author=author)
    return status, BOOKS[isbn]


def lend(query, body, isbn):
    found = book_of(isbn)
    [reader] = words(body, "reader")
    if found["lent_to"] is not None:
        raise Wrong(409, "it is out")
    found["lent_to"] = reader
    return 200, found


def give_back(query, body, isbn):
    found = book_of(isbn)
    if found["lent_to"] is None:
        raise Wrong(409, "it is in")
    found["lent_to"] = None
    return 200, found


def reader(query, body, name):
    return 200, {"reader": name, "books": sorted(i for i, b in BOOKS.items() if b["lent_to"] == name)}


PATHS = [
    (r"/health", {"GET": health}),
    (r"/books", {"GET": books}),
    (r"/books/([^/]+)", {"GET": book, "PUT": put}),
    (r"/books/([^/]+)/lend", {"POST": lend}),
    (r"/books/([^/]+)/return", {"POST": give_back}),
    (r"/readers/([^/]+)", {"GET": reader}),
]


class Desk(BaseHTTPRequestHandler):
    timeout = 60

    def answer(self):
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            with LOCK:
                status, content = self.route(url, body)
                content = json.dumps(content).encode()
        except Wrong as wrong:
            status, content = wrong.args[0], json.dumps({"error": wrong.args[1]}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def route(self, url, body):
        for pattern, methods in PATHS:
            found = re.fullmatch(pattern, url.path)
            if found and self.command not in methods:
                raise Wrong(405, "not with this method")
            if found:
                return methods[self.command](parse_qs(url.query), body, *map(unquote, found.groups()))
        raise Wrong(404, "no such path")

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = answer

    def log_message(self, *args):
        pass


HTTPServer.request_queue_size = 64
HTTPServer(("127.0.0.1", 8080), Desk).serve_forever()
PYTHON
setsid nohup python3 /app/desk.py > /tmp/desk.log 2>&1 < /dev/null &
curl --silent --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:8080/health
