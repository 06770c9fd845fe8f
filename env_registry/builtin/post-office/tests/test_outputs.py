"""The post office, used over the loopback while it runs. Every test invents its own people."""

import random
import socket
import threading

import pytest

OFFICE = ("127.0.0.1", 7070)


class Client:
    """A customer; a new name, unless one is given."""

    def __init__(self, name=None, hello=True):
        self.socket = socket.create_connection(OFFICE, timeout=10)
        self.file = self.socket.makefile("rb")
        self.name = name or f"x{random.randrange(10**12)}"
        if hello:
            assert self.ask(f"HELO {self.name}") == f"250 hello {self.name}"

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        line = self.file.readline()
        assert line.endswith(b"\n"), f"the connection ended with {line!r}"
        return line.decode("utf-8").rstrip("\n")

    def ask(self, command):
        self.send(command.encode() + b"\n")
        return self.line()

    def post(self, to, letter):
        self.send(f"POST {to} {len(letter)}\n".encode() + letter)
        code, number = self.line().split()
        assert code == "250"
        return int(number)

    def list(self):
        code, count = self.ask("LIST").split()
        assert code == "250"
        rows = [self.line().split(" ") for _ in range(int(count))]
        return [(int(number), sender, int(size)) for number, sender, size in rows]

    def read(self, number):
        code, size = self.ask(f"READ {number}").split()
        assert code == "250"
        return self.file.read(int(size))

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture()
def client():
    """A function that brings a client; all of them leave after the test."""
    made = []

    def bring(*args, **kwargs):
        made.append(Client(*args, **kwargs))
        return made[-1]

    yield bring
    for one in made:
        one.close()


def test_a_letter_goes_from_ines_to_tome(client):
    ines, tome = client(), client()
    number = ines.post(tome.name, b"Come in April.")
    assert tome.list() == [(number, ines.name, 14)]
    assert tome.read(number) == b"Come in April."
    assert tome.ask(f"DROP {number}") == "250 dropped"
    assert tome.list() == []
    assert tome.ask(f"READ {number}") == "550 no such letter"
    assert tome.ask("QUIT") == "221 bye"
    assert tome.file.read() == b""


def test_letters_are_bytes(client):
    ines, tome = client(), client()
    rng = random.Random(7)
    letters = [b"", "Þóra – ψ".encode(), b"\xff\x00\xfe", b"QUIT\n", b"\r\nLIST\r\n\n", b" ", rng.randbytes(65536)]
    numbers = [ines.post(tome.name, letter) for letter in letters]
    assert numbers == sorted(set(numbers))
    assert tome.list() == [(n, ines.name, len(letter)) for n, letter in zip(numbers, letters)]
    assert [tome.read(number) for number in numbers] == letters


def test_letters_of_others_are_private(client):
    ines, tome, eve = client(), client(), client()
    number = ines.post(tome.name, b"only for you")
    for nosy in (eve, ines):
        assert nosy.list() == []
        assert nosy.ask(f"READ {number}") == "550 no such letter"
        assert nosy.ask(f"DROP {number}") == "550 no such letter"
    assert tome.read(number) == b"only for you"
    assert eve.ask(f"HELO {tome.name}") == f"250 hello {tome.name}"
    assert eve.read(number) == b"only for you"


def test_ids_are_never_used_twice(client):
    one = client()
    seen = []
    for _ in range(4):
        seen += [one.post(one.name, b"a"), one.post(one.name, b"b")]
        assert one.ask(f"DROP {seen[-2]}") == "250 dropped"
        assert one.ask(f"DROP {seen[-1]}") == "250 dropped"
    assert seen == list(range(seen[0], seen[0] + 8))


def test_commands_in_pieces_and_many_at_once(client):
    one = client(hello=False)
    one.send(f"HELO {one.name}\r\nPOST {one.name} 5\nab".encode())
    assert one.line() == f"250 hello {one.name}"
    for piece in (b"c", b"de", b"LI", b"ST", b"\r", b"\nPOST "):
        one.send(piece)
    number = int(one.line().split()[1])
    assert [one.line(), one.line()] == ["250 1", f"{number} {one.name} 5"]
    letters = [b"x" * size for size in range(60)]
    rest = [f"{one.name} {len(letter)}\n".encode() + letter for letter in letters]
    one.send(b"POST ".join(rest) + b"NOOP\nLIST\n")
    numbers = [int(one.line().split()[1]) for _ in letters]
    assert one.line() == "500 what"
    assert one.line() == "250 61"
    assert [one.line() for _ in range(61)][1:] == [f"{n} {one.name} {size}" for size, n in enumerate(numbers)]


def test_mistakes_are_answered(client):
    one = client(hello=False)
    for command in ("LIST", "READ 1", "DROP 1"):
        assert one.ask(command) == "503 who are you"
    for command in ("HELO", "HELO a b", "HELO a/b", "READ x", "LIST all", "POST a", "DROP", "QUIT now"):
        assert one.ask(command) == "501 how"
    for command in ("", "helo x", "HELO\tx", " LIST", "WHAT"):
        assert one.ask(command) == "500 what"
    one.send(b"\xff\xfe\n")
    assert one.line() == "500 what"
    assert one.ask(f"HELO {one.name}") == f"250 hello {one.name}"
    for command in ("READ", "READ -1", "READ 1 2", "POST a -1", "POST a b", "POST a! 1", "POST a 1 2", "DROP +1"):
        assert one.ask(command) == "501 how"
    assert one.ask("READ 99999999999999999999") == "550 no such letter"
    assert one.list() == []


def test_too_heavy_letters_are_thrown_away(client):
    one = client()
    first = one.post(one.name, b"1")
    one.send(f"POST {one.name} 65537\n".encode() + b"LIST\n" * 13107 + b"ab" + b"LIST\n")
    assert one.line() == "552 too heavy"
    assert [one.line(), one.line()] == ["250 1", f"{first} {one.name} 1"]


def test_clients_that_vanish_leave_nothing(client):
    tome = client()
    for farewell in (b"", b"LIS", f"POST {tome.name} 9\nhalf".encode(), f"POST {tome.name} 90000\nhalf".encode()):
        gone = client()
        gone.send(farewell)
        gone.close()
    assert tome.list() == []
    assert tome.ask("READ 1") == "550 no such letter"


def test_nobody_waits_for_anybody(client):
    silent = [client(hello=False) for _ in range(10)]
    silent[0].send(b"HELO half")
    tome = client()
    senders = [client() for _ in range(8)]
    numbers = []

    def write(sender):
        for _ in range(20):
            number = sender.post(tome.name, b"z")
            numbers.append(number)

    threads = [threading.Thread(target=write, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(set(numbers)) == 160
    assert [number for number, _, _ in tome.list()] == sorted(numbers)
