#!/bin/bash
set -eu
python3 - <<'PYTHON'
from itertools import groupby
from pathlib import Path

scraps, genuine, forged = Path("/app/scraps"), {}, []
for path in scraps.rglob("*.txt"):
    place, seal, text = path.read_bytes().rstrip(b"\n").split(b"\n")
    _, leaf, _, line = place.split()
    if sum(text) % 10000 == int(seal.split()[1]):
        genuine[int(leaf), int(line)] = text
    else:
        forged.append(str(path.relative_to(scraps)).encode())
leaves = groupby(sorted(genuine.items()), key=lambda item: item[0][0])
pages = [b"\n".join(text for _, text in leaf) for _, leaf in leaves]
Path("/app/letter.txt").write_bytes(b"\n\n".join(pages) + b"\n")
Path("/app/forged.txt").write_bytes(b"".join(name + b"\n" for name in sorted(forged)))
PYTHON
