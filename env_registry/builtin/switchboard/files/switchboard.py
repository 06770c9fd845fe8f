#!/usr/bin/env python3
"""The harbour's switchboard: nine switches, sixteen lamps, and nobody remembers the wiring.

python3 switchboard.py           play; every press is kept in /app/presses.txt when you leave with q
python3 switchboard.py --check FILE   press what FILE says, one digit 1-9 per line; status 0 if all lamps are out
"""

import contextlib
import curses
import hashlib
import sys

PRESSES = "/app/presses.txt"
MOST = 60
LAMPS, SWITCHES = 16, 9


def wires(switch):
    """The lamps that a switch turns over."""
    plan = hashlib.sha256(b"switchboard of 1911, switch %d" % switch).digest()
    return [lamp for lamp in range(LAMPS) if plan[lamp] % 3 == 0]


def press(lamps, switch):
    """Return the lamps after a press: those wired to the switch are turned over."""
    return [lit ^ (lamp in wires(switch)) for lamp, lit in enumerate(lamps)]


def first_lamps():
    """The lamps as the night watch left them."""
    lamps, night = [False] * LAMPS, hashlib.sha256(b"the night watch of 1911").digest()
    for switch in range(1, SWITCHES + 1):
        if night[switch] % 3:
            lamps = press(lamps, switch)
    return lamps


def draw(window, lamps, count):
    window.erase()
    window.addstr(1, 4, "H A R B O U R   S W I T C H B O A R D", curses.A_BOLD)
    for lamp, lit in enumerate(lamps):
        row, column = 3 + 2 * (lamp // 4), 8 + 7 * (lamp % 4)
        window.addstr(row, column, "( * )" if lit else "(   )", curses.A_REVERSE if lit else curses.A_NORMAL)
    window.addstr(12, 4, "1-9 press a switch      r from the beginning      q leave")
    window.addstr(13, 4, f"{count} presses, {sum(lamps)} lamps burning" + ("" if any(lamps) else ". All dark: good night!"))
    window.refresh()


def play(window):
    with contextlib.suppress(curses.error):  # some terminals cannot hide their cursor
        curses.curs_set(0)
    lamps, presses = first_lamps(), []
    while True:
        draw(window, lamps, len(presses))
        key = window.getkey()
        if key == "q":
            return presses
        if key == "r":
            lamps, presses = first_lamps(), []
        elif key in "123456789" and any(lamps) and len(presses) < MOST:
            presses.append(int(key))
            lamps = press(lamps, int(key))


def check(path):
    with open(path, encoding="utf-8") as book:
        presses = book.read().split()
    if len(presses) > MOST or not all(p in list("123456789") for p in presses):
        return 2
    lamps = first_lamps()
    for switch in presses:
        lamps = press(lamps, int(switch))
    return 1 if any(lamps) else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        sys.exit(check(sys.argv[2]))
    made = curses.wrapper(play)
    with open(PRESSES, "w", encoding="utf-8") as book:
        book.writelines(f"{switch}\n" for switch in made)
