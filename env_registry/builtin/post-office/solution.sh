#!/bin/bash
set -eu
cat > /app/office.py <<'PYTHON'
"""The post office of Orrin. See PROTOCOL.md."""

import re
import socketserver
import threading

HEAVY = 65536
NAME, NUMBER = r"[A-Za-z0-9_-]+", r"[0-9]+"
FORMS = {
    "HELO": [NAME], "POST": [NAME, NUMBER], "LIST": [], "READ": [NUMBER], "DROP": [NUMBER], "QUIT": [],
}


class Letters:
    """All letters in the post, shared by every connection."""

    def __init__(self):
        self.lock, self.last, self.letters = threading.Lock(), 0, {}

    def post(self, sender, to, letter):
        with self.lock:
            self.last += 1
            self.letters[self.last] = (sender, to, letter)
            return self.last

    def to(self, name):
        with self.lock:
            return [(n, sender, letter) for n, (sender, to, letter) in self.letters.items() if to == name]

    def read(self, name, number, drop=False):
        with self.lock:
            _, to, letter = self.letters.get(number, (None, None, None))
            if to != name:
                return None
            if drop:
                del self.letters[number]
            return letter


class Gone(Exception):
    pass


class Desk(socketserver.StreamRequestHandler):
    name = None

    def exactly(self, size):
        data = self.rfile.read(size)
        if len(data) < size:
            raise Gone
        return data

    def handle(self):
        try:
            while True:
                line = self.rfile.readline()
                if not line.endswith(b"\n"):
                    return
                answer = self.answer(line)
                self.wfile.write(answer)
                if answer.startswith(b"221"):
                    return
        except (Gone, OSError):
            return

    def answer(self, line):
        try:
            verb, *words = re.sub(r"\r?\n$", "", line.decode("utf-8")).split(" ")
        except UnicodeDecodeError:
            return b"500 what\n"
        if verb not in FORMS:
            return b"500 what\n"
        form = FORMS[verb]
        if len(words) != len(form) or not all(map(re.fullmatch, form, words)):
            return b"501 how\n"
        if self.name is None and verb not in ("HELO", "QUIT"):
            return b"503 who are you\n"
        return getattr(self, verb.lower())(*words)

    def helo(self, name):
        self.name = name
        return f"250 hello {name}\n".encode()

    def quit(self):
        return b"221 bye\n"

    def post(self, to, size):
        left = int(size)
        if left <= HEAVY:
            return b"250 %d\n" % POST.post(self.name, to, self.exactly(left))
        while left:
            left -= len(self.exactly(min(left, HEAVY)))
        return b"552 too heavy\n"

    def list(self):
        mine = POST.to(self.name)
        rows = [f"{number} {sender} {len(letter)}\n".encode() for number, sender, letter in mine]
        return b"250 %d\n" % len(mine) + b"".join(rows)

    def read(self, number):
        letter = POST.read(self.name, int(number))
        return b"550 no such letter\n" if letter is None else b"250 %d\n" % len(letter) + letter

    def drop(self, number):
        letter = POST.read(self.name, int(number), drop=True)
        return b"550 no such letter\n" if letter is None else b"250 dropped\n"


class Office(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


POST = Letters()
Office(("127.0.0.1", 7070), Desk).serve_forever()
PYTHON
setsid nohup python3 /app/office.py > /tmp/office.log 2>&1 < /dev/null &
until (exec 3<> /dev/tcp/127.0.0.1/7070) 2> /dev/null; do sleep 0.1; done
echo The post office is open.
