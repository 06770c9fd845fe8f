#!/usr/bin/env python3
"""The lighthouse of Orrin: a small adventure. Play it: python3 /app/lighthouse.py

Every move is kept in the logbook (/app/logbook.txt, one per line) when you leave or when the lamp burns.
`python3 lighthouse.py < logbook.txt` plays a logbook again. The exit status is 0 if the lamp burned, else 1.
"""

import hashlib
import sys

LOGBOOK = "/app/logbook.txt"
MOST_MOVES = 120
NIGHT = hashlib.sha256(b"the second of November, half past four, getting dark").digest()
WINDS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"]
SEAS = ["calm", "ripple", "chop", "swell", "surf"]
WIND, SEA = WINDS[NIGHT[0] % 8], SEAS[NIGHT[1] % 5]
BELLS, FLASHES, TURNS = 3 + NIGHT[2] % 6, 2 + NIGHT[3] % 4, 7 + NIGHT[4] % 5

ROOMS = {
    "jetty": ("A jetty of black planks. The ferry has gone. A path leads up; a boathouse is to the east.",
              {"up": "path", "east": "boathouse"}),
    "boathouse": ("A boathouse. A can stands behind the nets; something drips.", {"west": "jetty"}),
    "path": ("A steep path. A cottage is to the west, the tower's door to the north; a weathervane turns on a post.",
             {"down": "jetty", "west": "cottage", "north": "door"}),
    "cottage": ("The keeper's cottage. A note lies on the table, a stove is warm, a chart hangs on the wall. "
                "A trapdoor leads down.", {"east": "path", "down": "cellar"}),
    "cellar": ("A cellar, with the sea close behind the wall. A shelf; a box of matches.", {"up": "cottage"}),
    "door": ("The tower's door. Its lock has three rings: wind, sea, bell.", {"south": "path"}),
    "stair": ("Inside. A stair winds up past the clockwork that turns the lamp.", {"south": "door", "up": "lamp"}),
    "lamp": ("The lamp room. A great lens, a dry lamp, no wick. A dial says how often it flashes.",
             {"down": "stair"}),
}
HELP = """go WHERE, look [at WHAT], take WHAT, use WHAT, listen, wait, set WHAT to WHAT, wind, light, bag, quit"""


class Game:
    def __init__(self):
        self.room, self.bag, self.rings, self.turns = "jetty", set(), {}, 0
        self.dried, self.filled, self.wicked, self.flashes, self.won = 0, False, False, None, False

    def look(self, what):
        sights = {
            ("jetty", "sea"): f"You know the keeper's five words for it: {', '.join(SEAS)}. Tonight: {SEA}.",
            ("path", "weathervane"): f"The arrow points into the wind, and that is {WIND} tonight.",
            ("path", "sky"): "Four o'clock colours. You have perhaps an hour.",
            ("boathouse", "nets"): "Behind them: a can of oil.",
            ("cottage", "note"): "“Gone to the mainland for a tooth. Lamp must burn! The lock asks what the island "
                                 "is doing: where the wind comes from, what the sea is like, how often the bell "
                                 "buoy rings (you hear it in the cellar). Matches always damp: dry them on the stove.”",
            ("cottage", "stove"): "Warm, not hot. Things dry on it, given time.",
            ("cottage", "chart"): f"“ORRIN  Fl({FLASHES}) 20s 31m 14M”. So it flashes {FLASHES} times, and waits.",
            ("cellar", "shelf"): "Jam, jam, a wick, jam.",
            ("cellar", "matches"): "A box of matches, damp.",
            ("door", "lock"): "Three rings, with words and numbers: wind, sea, bell. (set wind to …)",
            ("stair", "clockwork"): f"A brass plate: “{TURNS} turns. One more is for the sea.” Wound: {self.turns}.",
            ("lamp", "dial"): f"It says {self.flashes or 'nothing'}.",
            ("lamp", "lamp"): f"It has {'oil' if self.filled else 'no oil'} and {'a wick' if self.wicked else 'no wick'}.",
        }
        return ROOMS[self.room][0] if not what else sights.get((self.room, what), "Nothing of note.")

    def go(self, where):
        if self.room == "door" and where == "north":
            if self.rings != {"wind": WIND, "sea": SEA, "bell": str(BELLS)}:
                return "The rings do not agree with the night. The door stays shut."
            self.room = "stair"
        elif where in ROOMS[self.room][1]:
            self.room = ROOMS[self.room][1][where]
        else:
            return "Not that way."
        return self.look("")

    def take(self, what):
        where = {"oil": "boathouse", "can": "boathouse", "wick": "cellar", "matches": "cellar"}
        if where.get(what) != self.room:
            return "There is no such thing to take."
        self.bag.add("oil" if what == "can" else what)
        return "Taken."

    def use(self, what):
        if what not in self.bag:
            return "You do not carry it."
        if self.room == "cottage" and what == "matches":
            self.dried = max(self.dried, 1)
            self.bag.discard(what)
            return "You spread them on the stove. Give them time."
        if self.room == "lamp" and what == "oil":
            self.filled = True
            return "The lamp drinks all of it."
        if self.room == "lamp" and what == "wick":
            self.wicked = self.filled
            return "It fits." if self.filled else "A dry wick would only burn away. First things first."
        return "Not here."

    def wait(self):
        if self.room != "cottage" or not self.dried:
            return "The evening goes on without you."
        self.dried += 1
        if self.dried < 4:
            return "They steam a little."
        self.bag.add("matches")
        return "They are dry. You put them into your bag."

    def set(self, what, value):
        if self.room == "door" and what in ("wind", "sea", "bell"):
            self.rings[what] = value
            return "Click."
        if self.room == "lamp" and what in ("dial", "flashes"):
            self.flashes = value
            return "The dial turns."
        return "That cannot be set here."

    def wind(self):
        if self.room != "stair":
            return "Nothing to wind here."
        self.turns = self.turns + 1 if self.turns <= TURNS else 0
        if self.turns > TURNS:
            self.turns = 0
            return "That turn was for the sea. The weight runs all the way down, and you begin again."
        return f"Turn {self.turns}."

    def light(self):
        if self.room != "lamp":
            return "Not here."
        if "matches" not in self.bag or self.dried < 4:
            return "You have nothing dry to light it with."
        if not self.wicked or self.turns != TURNS or self.flashes != str(FLASHES):
            return "A flame, a moment, and out it goes. Oil, wick, clockwork, dial: something is not as it should be."
        self.won = True
        return "The lamp of Orrin burns. Far out, a ship corrects her course. You will never know her name."

    def play(self, line):
        verb, *rest = line.split()
        rest = [word for word in rest if word not in ("at", "to", "the")]
        if verb == "look":
            return self.look(rest[0] if rest else "")
        if verb in ("go", "take", "use") and len(rest) == 1:
            return getattr(self, verb)(rest[0])
        if verb == "set" and len(rest) == 2:
            return self.set(*rest)
        if verb == "listen":
            return f"The bell buoy: {' – '.join(['dong'] * BELLS)}." if self.room == "cellar" else "Wind and gulls."
        if verb in ("wait", "wind", "light") and not rest:
            return getattr(self, verb)()
        if verb == "bag":
            return ", ".join(sorted(self.bag)) or "It is empty."
        return HELP


def main():
    game, moves, at_terminal = Game(), [], sys.stdin.isatty()
    print("THE LIGHTHOUSE OF ORRIN\n\n" + game.look("") + "\nThe lamp is dark, and it should not be. (help)")
    while not game.won and len(moves) < MOST_MOVES:
        if at_terminal:
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        move = " ".join(line.lower().split())
        if not line or move == "quit":
            break
        if move:
            moves.append(move)
            print(game.play(move), flush=True)
    if at_terminal:
        with open(LOGBOOK, "w", encoding="utf-8") as logbook:
            logbook.writelines(f"{move}\n" for move in moves)
        print(f"{len(moves)} moves are in the logbook.")
    sys.exit(0 if game.won else 1)


if __name__ == "__main__":
    main()
