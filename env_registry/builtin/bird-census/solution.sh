#!/bin/bash
set -eu
cat > /app/census.py <<'PYTHON'
"""Sum up a folder of bird counts."""

import json
import sys
from collections import defaultdict
from pathlib import Path


def rows(path):
    header, *lines = path.read_text("utf-8").splitlines()
    separator = ";" if ";" in header else ","
    columns = [column.strip() for column in header.split(separator)]
    for line in lines:
        if line.strip():
            yield {c: " ".join(cell.split()) for c, cell in zip(columns, line.split(separator))}


def iso(date):
    return "-".join(reversed(date.split("."))) if "." in date else date


def name(words):
    return " ".join(word.capitalize() for word in words.split())


def census(folder):
    taken = {}
    for path in sorted(folder.glob("*.csv")):
        for row in rows(path):
            if row["count"] != "-":
                key = iso(row["date"]), name(row["species"]), name(row["place"])
                taken[key] = max(taken.get(key, 0), int(row["count"].lstrip("~")))
    total, first, days = defaultdict(int), {}, defaultdict(int)
    places = defaultdict(lambda: defaultdict(int))
    for (date, species, place), count in taken.items():
        total[species] += count
        first[species] = min(date, first.get(species, date))
        places[species][place] += count
        days[date] += count

    def best(sums):
        return min(sums, key=lambda key: (-sums[key], key), default=None)

    species = {s: {"total": total[s], "first": first[s], "best_place": best(places[s])} for s in sorted(total)}
    return {"rows": len(taken), "species": species, "busiest_day": best(days)}


Path(sys.argv[2]).write_text(json.dumps(census(Path(sys.argv[1])), indent=2) + "\n", "utf-8")
PYTHON
python3 /app/census.py /app/counts /app/summer.json
