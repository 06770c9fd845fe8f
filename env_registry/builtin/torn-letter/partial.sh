#!/bin/bash
# Tells genuine from forged, but sorts leaves and lines as text, and forgets the empty lines between leaves.
set -eu
python3 - <<'PYTHON'
from pathlib import Path

scraps, genuine, forged = Path("/app/scraps"), {}, []
for path in scraps.rglob("*.txt"):
    place, seal, text = path.read_bytes().rstrip(b"\n").split(b"\n")
    _, leaf, _, line = place.split()
    if sum(text) % 10000 == int(seal.split()[1]):
        genuine[int(leaf), int(line)] = text
    else:
        forged.append(str(path.relative_to(scraps)).encode())
lines = [text for _, text in sorted(genuine.items(), key=lambda item: str(item[0]))]
Path("/app/letter.txt").write_bytes(b"\n".join(lines) + b"\n")
Path("/app/forged.txt").write_bytes(b"".join(name + b"\n" for name in sorted(forged)))
PYTHON
