#!/usr/bin/env python3
"""The Orrin pocket computer, model 3, and its monitor. See MANUAL.md."""

import sys

PATIENCE = 200_000


class Halt(Exception):
    pass


class Machine:
    def __init__(self):
        self.memory = [0] * 256
        self.given = []
        self.reset()

    def reset(self):
        self.a = self.x = self.c = self.pc = self.steps = 0
        self.input = list(self.given)

    def step(self):
        """Do one instruction; return what it printed, or None."""
        if self.steps >= PATIENCE:
            raise Halt("TEA TIME")
        self.steps += 1
        op, n, m = self.memory[self.pc], self.memory[(self.pc + 1) % 256], self.memory
        self.pc = (self.pc + 2) % 256
        if op == 0x00:
            self.pc = (self.pc - 2) % 256
            raise Halt("HALT")
        if op == 0x10:
            self.a = n
        elif op == 0x11:
            self.a = m[n]
        elif op == 0x12:
            self.a = m[(n + self.x) % 256]
        elif op == 0x20:
            m[n] = self.a
        elif op == 0x21:
            m[(n + self.x) % 256] = self.a
        elif op == 0x30:
            self.c, self.a = divmod(self.a + m[n], 256)
        elif op == 0x31:
            self.c, self.a = int(self.a < m[n]), (self.a - m[n]) % 256
        elif op == 0x40:
            self.x = self.a
        elif op == 0x41:
            self.a = self.x
        elif op == 0x42:
            self.x = (self.x + 1) % 256
        elif op == 0x50 or (op == 0x51 and self.a == 0) or (op == 0x52 and self.c):
            self.pc = n
        elif op == 0x60:
            if self.input:
                self.a = self.input.pop(0)
            else:
                self.pc = n
        elif op == 0x61:
            return self.a
        elif op not in (0x51, 0x52):
            raise Halt("WHAT?")
        return None

    def lamps(self):
        op, n = self.memory[self.pc], self.memory[(self.pc + 1) % 256]
        return f"pc {self.pc:02x}  next {op:02x} {n:02x}   A {self.a:02x}  X {self.x:02x}  C {self.c}   step {self.steps}"

    def load(self, path):
        with open(path, encoding="ascii") as text:
            cells = [int(cell, 16) for cell in text.read().split()]
        if len(cells) > 256 or not all(0 <= cell < 256 for cell in cells):
            raise ValueError("a memory is at most 256 bytes")
        self.memory = cells + [0] * (256 - len(cells))


def run(machine):
    """Run from the beginning, printing; return the light that is on in the end."""
    machine.reset()
    while True:
        try:
            printed = machine.step()
        except Halt as light:
            return str(light)
        if printed is not None:
            print(printed, flush=True)


def command(machine, words):
    verb, rest = words[0], words[1:]
    if verb == "e":
        for offset, cell in enumerate(rest[1:]):
            machine.memory[(int(rest[0], 16) + offset) % 256] = int(cell, 16) % 256
    elif verb == "d":
        start = int(rest[0], 16) if rest else 0
        print(" ".join(f"{machine.memory[(start + i) % 256]:02x}" for i in range(16)))
    elif verb == "in":
        machine.given = [int(word) % 256 for word in rest]
        machine.reset()
    elif verb == "s":
        for _ in range(int(rest[0]) if rest else 1):
            printed = machine.step()
            print(machine.lamps() + ("" if printed is None else f"   prints {printed}"))
    elif verb == "g":
        print(run(machine))
    elif verb == "r":
        machine.reset()
    elif verb == "load":
        machine.load(rest[0])
    elif verb == "save":
        with open(rest[0], "w", encoding="ascii") as text:
            for row in range(0, 256, 16):
                text.write(" ".join(f"{cell:02x}" for cell in machine.memory[row:row + 16]) + "\n")
    else:
        print("e d in s g r save load q; see MANUAL.md")


def monitor():
    machine = Machine()
    print("ORRIN POCKET COMPUTER 3\n" + machine.lamps())
    while True:
        try:
            words = input("* ").split()
        except EOFError:
            return
        if words == ["q"]:
            return
        try:
            if words:
                command(machine, words)
        except Halt as light:
            print(light)
        except (ValueError, IndexError, OSError) as wrong:
            print(f"?  {wrong}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        monitor()
    else:
        pocket = Machine()
        pocket.load(sys.argv[1])
        pocket.given = [int(word) % 256 for word in sys.stdin.read().split()]
        sys.exit(0 if run(pocket) == "HALT" else 1)
