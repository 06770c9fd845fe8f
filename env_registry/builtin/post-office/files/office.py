"""The post office of Orrin. See PROTOCOL.md. (It worked on the day I wrote it. -- the old postmaster)"""

import socket

LETTERS = []  # (id, sender, to, text)


def handle(connection):
    name = None
    while True:
        line = connection.recv(1024).decode().strip()
        if not line:
            return
        verb, *words = line.split(" ")
        if verb == "HELO":
            name = words[0]
            reply = f"250 hello {name}\n"
        elif verb == "QUIT":
            connection.send(b"221 bye\n")
            return
        elif name is None:
            reply = "503 who are you\n"
        elif verb == "POST":
            to, size = words[0], int(words[1])
            if size > 65535:
                reply = "552 too heavy\n"
            else:
                text = connection.recv(size).decode()
                number = len(LETTERS) + 1
                LETTERS.append((number, name, to, text))
                reply = f"250 {number}\n"
        elif verb == "LIST":
            mine = [letter for letter in LETTERS if letter[2] == name]
            reply = f"250 {len(mine)}\n"
            for number, sender, to, text in mine:
                reply += f"{number} {sender} {len(text)}\n"
        elif verb == "READ":
            for number, sender, to, text in LETTERS:
                if number == int(words[0]):
                    reply = f"250 {len(text)}\n{text}"
                    break
            else:
                reply = "550 no such letter\n"
        elif verb == "DROP":
            for letter in LETTERS:
                if letter[0] == int(words[0]):
                    LETTERS.remove(letter)
                    reply = "250 dropped\n"
        else:
            reply = "500 what\n"
        connection.send(reply.encode())


def main():
    office = socket.socket()
    office.bind(("0.0.0.0", 7070))
    office.listen(1)
    while True:
        connection, _ = office.accept()
        handle(connection)
        connection.close()


if __name__ == "__main__":
    main()
