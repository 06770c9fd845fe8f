"""Records the golden streams: real programs on a real terminal, and what tmux shows of the same bytes.

    python tests/golden/record.py [vim less htop nano]

Each `NAME-ROWSxCOLS.bytes` holds what the terminal printed; the JSON beside it, what stands on the screen after
the first `at` bytes. The screens come from tmux, an independent emulator; a changed golden is reviewed by eye.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kit.local_wire import LocalWire

from terminal_gym.terminal.keys import encode
from terminal_gym.terminal.session import Session

HERE = Path(__file__).parent
NONCE = "00112233445566ff"
SIZES = ((40, 160), (24, 80))
SCRIPTS = {
    "vim": [
        *("vim -u NONE -N poem.py\n", ":set number ruler\n", "G", "C-u", "/line 3\n", "5dd", "p", "O"),
        *(
            "inserted: wide 漢字 and é, tab\there",
            "Escape",
            ":syntax on\n",
            ":vsplit\n",
            ":split\n",
            "C-w",
            "w",
        ),
        *(
            ":terminal echo inner\n",
            ":only\n",
            "gg",
            "C-e",
            "C-e",
            "C-y",
            "v",
            "jj",
            "d",
            "u",
            ":help scrolling\n",
        ),
        *("C-f", ":qa!\n"),
    ],
    "less": [
        *("less -N poem.py\n", "Space", "j", "j", "k", "/line 4\n", "n", "G", "b", "h", "C-f", "q", "g", "q"),
        *(
            "seq 1 500 | less\n",
            "C-d",
            "y",
            "q",
            "grep --color=always line poem.py | less -R\n",
            "Space",
            "q",
        ),
    ],
    "nano": [
        *(
            "nano poem.py\n",
            "first line typed\n",
            "漢字 wide",
            "PageDown",
            "C-w",
            "line 4",
            "Enter",
            "C-k",
            "C-k",
        ),
        *("C-u", "C-g", "PageDown", "C-x", "M-#", "C-_", "1", "Enter", "C-x", "n"),
    ],
    "htop": [
        *(
            "unshare -pf --mount-proc htop -d 50\n",
            "Down",
            "Down",
            "F5",
            "F6",
            "Escape",
            "F2",
            "Escape",
            "F3",
        ),
        *("bash", "Escape", "q"),
    ],
}


def main(names: list[str]) -> None:
    for name in names or list(SCRIPTS):
        for rows, cols in SIZES:
            data, ends = record(SCRIPTS[name], rows, cols)
            checkpoints = [{"at": at, **tmux_screen(data[:at], rows, cols)} for at in ends]
            stem = HERE / f"{name}-{rows}x{cols}"
            stem.with_suffix(".bytes").write_bytes(data)
            text = json.dumps(
                {"rows": rows, "cols": cols, "checkpoints": checkpoints}, ensure_ascii=False, indent=1
            )
            stem.with_suffix(".json").write_text(text + "\n")
            print(stem.name, len(data), "bytes,", len(ends), "screens")


def record(keys: list[str], rows: int, cols: int) -> tuple[bytes, list[int]]:
    """Return what was printed, and how much of it there was after each key."""
    with tempfile.TemporaryDirectory() as home:
        Path(home, "poem.py").write_text(
            "".join(f"def f{n}(): return 'line {n}'  # {'=' * n}\n" for n in range(90))
        )
        Path(home, ".bash_profile").write_text("PS1='$ '\n")
        printed = bytearray()
        wire = LocalWire("bash", Path(home), nonce=NONCE, rows=rows, cols=cols)
        tap = lambda frame: printed.extend(frame.data) if frame.direction == "out" else None  # noqa: E731
        session = Session(wire, nonce=NONCE, rows=rows, cols=cols, frames=tap)
        session.open(10)
        ends = []
        for key in keys:
            session.send(encode(key))
            session.settle(deadline_s=3)
            session.wait(lambda quiet_s: quiet_s > 0.15, deadline_s=3)
            ends.append(len(printed))
        wire.close()
        return bytes(printed), ends


def tmux_screen(data: bytes, rows: int, cols: int) -> dict[str, object]:
    """Return what tmux shows after `data`: the rows, trailing blanks cut, and the cursor."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data").write_bytes(data + b"\x1b\\\x1b]2;fed\x07")
        Path(folder, "conf").write_text("set -g status off\nset -g default-terminal xterm-256color\n")
        tmux = ["tmux", "-u", "-S", f"{folder}/socket", "-f", f"{folder}/conf"]
        environ = {**os.environ, "LC_ALL": "C.UTF-8"}
        command = f"stty raw -echo; cat {folder}/data; cat >/dev/null"
        start = [*tmux, "new-session", "-d", "-x", str(cols), "-y", str(rows), f"sh -c '{command}'"]
        subprocess.run(start, check=True, env=environ)
        title = [*tmux, "display-message", "-p", "#{pane_title}"]
        while subprocess.run(title, check=True, capture_output=True, env=environ).stdout != b"fed\n":
            pass
        shown = subprocess.run([*tmux, "capture-pane", "-p"], check=True, capture_output=True, env=environ)
        where = [*tmux, "display-message", "-p", "#{cursor_y} #{cursor_x} #{alternate_on} #{pane_height}"]
        cursor = subprocess.run(where, check=True, capture_output=True, env=environ).stdout.split()
        subprocess.run([*tmux, "kill-server"], check=True, env=environ)
        assert int(cursor[3]) == rows, cursor
        lines = [line.rstrip(" ") for line in shown.stdout.decode().split("\n")[:rows]]
        return {
            "screen": lines,
            "cursor": [int(cursor[0]), min(int(cursor[1]), cols - 1)],
            "alternate": cursor[2] == b"1",
        }


if __name__ == "__main__":
    main(sys.argv[1:])
